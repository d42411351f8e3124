//! A report as JUnit XML, as continuous integration reads it.

use std::fmt::Write as _;

use super::outcome::{Report, Verdict};

/// The report as XML.
pub fn junit(report: &Report) -> String {
    let failures = report.count(Verdict::Failed) + report.count(Verdict::UnexpectedPass);
    let skipped = report.count(Verdict::Skipped) + report.count(Verdict::ExpectedFailure);
    let took: u64 = report.cases.iter().map(|case| case.took_ms).sum();
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a string cannot fail.
    let _written = writeln!(
        xml,
        "<testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\" errors=\"{}\" skipped=\"{skipped}\" time=\"{}\">",
        escaped(&report.driver),
        report.cases.len(),
        report.count(Verdict::Broken),
        seconds(took)
    );
    for case in &report.cases {
        let (class, name) = case.id.rsplit_once('/').unwrap_or(("", &case.id));
        let _written = write!(
            xml,
            "  <testcase classname=\"{}\" name=\"{}\" time=\"{}\"",
            escaped(class),
            escaped(name),
            seconds(case.took_ms)
        );
        let element = match case.verdict {
            Verdict::Passed => {
                xml += "/>\n";
                continue;
            }
            Verdict::Failed | Verdict::UnexpectedPass => "failure",
            Verdict::Broken => "error",
            Verdict::Skipped | Verdict::ExpectedFailure => "skipped",
        };
        let first = case.text.lines().next().unwrap_or_default();
        let _written = writeln!(
            xml,
            ">\n    <{element} message=\"{}\">{}</{element}>\n  </testcase>",
            escaped(first),
            escaped(&case.text)
        );
    }
    xml + "</testsuite>\n"
}

fn seconds(milliseconds: u64) -> String {
    format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000)
}

/// XML 1.0 has no place for most control characters, whatever they are written as.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\n' => out.push('\n'),
            other if other.is_control() || ('\u{fffe}'..='\u{ffff}').contains(&other) => {
                out.push('\u{fffd}')
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::outcome::CaseReport;
    use super::*;

    #[test]
    fn what_cannot_stand_in_xml_is_escaped() {
        let case = |id: &str, verdict, text: &str| CaseReport {
            id: id.to_owned(),
            verdict,
            text: text.to_owned(),
            place: None,
            took_ms: 1_234,
        };
        let report = Report {
            conformance: "0.1",
            file: "a.wasm".to_owned(),
            sha256: String::new(),
            driver: "a & b".to_owned(),
            cases: vec![
                case("universal/stop", Verdict::Passed, ""),
                case("script/x/y", Verdict::Failed, "1 < 2\n\u{1b}[0m"),
                case("universal/read", Verdict::Skipped, "no \"read\""),
            ],
        };
        expect_test::expect![[r#"
            <?xml version="1.0" encoding="UTF-8"?>
            <testsuite name="a &amp; b" tests="3" failures="1" errors="0" skipped="1" time="3.702">
              <testcase classname="universal" name="stop" time="1.234"/>
              <testcase classname="script/x" name="y" time="1.234">
                <failure message="1 &lt; 2">1 &lt; 2
            �[0m</failure>
              </testcase>
              <testcase classname="universal" name="read" time="1.234">
                <skipped message="no &quot;read&quot;">no &quot;read&quot;</skipped>
              </testcase>
            </testsuite>
        "#]]
        .assert_eq(&junit(&report));
    }
}
