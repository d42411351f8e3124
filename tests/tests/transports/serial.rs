//! Serial lines: a pair of pseudo-terminals, made and pulled by `socat`.

use std::path::PathBuf;
use std::process::Command;

use bulkhead_tests::{Folder, Running};
use serde_json::json;

use crate::{detail, received, send, stage};

/// A line whose other end is `socat`'s standard input and output.
struct Line {
    socat: Running,
    path: PathBuf,
}

impl Line {
    fn lay(folder: &Folder) -> Self {
        let path = folder.path().join("ttyTEST");
        let pty = format!("PTY,link={},raw,echo=0,wait-slave", path.display());
        let socat =
            Running::start(Command::new("socat").args(["-d", "-d", &pty, "STDIO"])).unwrap();
        socat
            .err()
            .wait_for(0, |line| line.contains("PTY is").then_some(()))
            .unwrap();
        Self { socat, path }
    }

    fn keys(&self, more: &str) -> String {
        format!(r#"connect = "serial://{}"{more}"#, self.path.display())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_byte_passes_a_line_as_it_is() {
    let folder = Folder::new().unwrap();
    let mut line = Line::lay(&folder);
    let mut stage = stage(&line.keys(", speed = 19200, stop_bits = 2")).await;
    stage.event("opened").await;
    // What a terminal would take for itself: interrupt, end of file, flow control, carriage returns.
    let odd = "\u{3}\u{4}\u{11}\u{13}\u{1a}\r\t";
    stage.must(&[send(0, odd), send(0, "!\n")]).await;
    line.socat
        .out()
        .wait_for(0, |seen| (seen == format!("{odd}!")).then_some(()))
        .unwrap();
    line.socat.tell(odd).unwrap();
    received(&mut stage, 0, &format!("{odd}\n")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_is_set_up_as_the_file_says() {
    let folder = Folder::new().unwrap();
    let line = Line::lay(&folder);
    let mut stage = stage(&line.keys(", speed = 57600, stop_bits = 2")).await;
    stage.event("opened").await;
    let said = Command::new("stty")
        .arg("-a")
        .arg("-F")
        .arg(&line.path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    for mode in [
        "speed 57600 baud",
        " cs8",
        "-parenb",
        " cstopb",
        "-icanon",
        "-echo",
        "-isig",
        "-ixon",
        "-opost",
        "-crtscts",
        " clocal",
    ] {
        assert!(said.contains(mode), "{mode}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_is_pulled_is_noticed_and_found_when_it_is_back() {
    let folder = Folder::new().unwrap();
    let line = Line::lay(&folder);
    let mut stage = stage(&line.keys("")).await;
    stage.event("opened").await;
    line.socat.kill().unwrap();
    let closed = stage.event("closed").await;
    assert_eq!(
        (&closed["reason"], &closed["outlook"]),
        (&json!("Reset"), &json!("Redialling"))
    );
    let closed = stage.event("closed").await;
    assert_eq!(closed["reason"], json!("Unreachable"));
    assert!(
        detail(&stage).contains("check that it is plugged in"),
        "{}",
        detail(&stage)
    );

    let mut line = Line::lay(&folder);
    stage.event("opened").await;
    line.socat.tell("back").unwrap();
    received(&mut stage, 0, "back\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_has_one_opener() {
    let folder = Folder::new().unwrap();
    let line = Line::lay(&folder);
    let mut first = stage(&line.keys("")).await;
    first.event("opened").await;
    let mut second = stage(&line.keys("")).await;
    let closed = second.event("closed").await;
    assert_eq!(
        (&closed["reason"], &closed["outlook"]),
        (&json!("Unreachable"), &json!("Redialling"))
    );
    assert!(
        detail(&second).contains("somebody else has opened"),
        "{}",
        detail(&second)
    );
    first.must(&[json!({ "close": 0 })]).await;
    second.event("opened").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_line_is_not_opened() {
    let folder = Folder::new().unwrap();
    let path = folder.write("file", "text").unwrap();
    let mut stage = stage(&format!(r#"connect = "serial://{}""#, path.display())).await;
    stage.event("closed").await;
    assert!(
        detail(&stage).contains("it is no serial line"),
        "{}",
        detail(&stage)
    );
    assert_eq!(std::fs::read_to_string(path).unwrap(), "text");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_cannot_do_what_the_file_says_is_not_opened() {
    // A pseudo-terminal has eight bits and no parity; the kernel says yes and does what it can.
    for keys in [
        r#", parity = "even""#,
        r#", parity = "odd""#,
        ", data_bits = 7",
    ] {
        let folder = Folder::new().unwrap();
        let line = Line::lay(&folder);
        let mut stage = stage(&line.keys(keys)).await;
        let closed = stage.event("closed").await;
        assert_eq!(closed["outlook"], json!("Redialling"), "{keys}");
        let detail = detail(&stage);
        assert!(
            detail.contains("the line cannot do 9600 bit/s with this parity"),
            "{keys}: {detail}"
        );
    }
}
