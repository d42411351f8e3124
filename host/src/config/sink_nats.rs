//! A sink of kind `nats`: a stream of JetStream.

use std::path::Path;
use std::time::Duration;

use super::address::{self, Tls};
use super::fault::quoted;
use super::secret::{Secret, secret};
use super::section::Section;
use super::server_url::{PASSWORD_INSIDE, ServerUrl, without_secrets};

/// The keys of its own.
pub(super) const NATS_KEYS: [&str; 13] = [
    "url",
    "user",
    "password",
    "token",
    "creds",
    "ca",
    "cert",
    "key",
    "server_name",
    "subject",
    "stream",
    "create",
    "duplicate_window",
];

const SCHEMES: &[&str] = &["nats", "tls"];
const EXAMPLE: &str = "nats://10.0.0.20:4222";
const SUBJECT: &str = "bulkhead.{channel}.{group}";
const STREAM: &str = "BULKHEAD";
/// The longest template, in bytes. A filled one stays far below what a server takes on one line (4 KiB).
const LONGEST_SUBJECT: usize = 256;

/// What a sink of kind `nats` is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsSink {
    /// A name or an address.
    pub host: String,
    /// Default 4222.
    pub port: u16,
    /// How the server is checked; without it nothing is encrypted. `tls://` asks for it.
    pub tls: Option<Tls>,
    /// As whom.
    pub login: NatsLogin,
    /// Default `bulkhead.{channel}.{group}`.
    pub subject: Subject,
    /// Default `BULKHEAD`. Letters, digits, `_` and `-`.
    pub stream: String,
    /// Whether the stream is made where there is none. Default yes.
    pub create: bool,
    /// For how long a stream that is made knows what it was given already. Default 2 min; 1 s to 1 day.
    pub duplicate_window: Duration,
}

/// As whom a server lets a sink in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NatsLogin {
    /// As anybody.
    Nobody,
    /// With a name and its password.
    Password {
        /// The name.
        user: String,
        /// Its password.
        password: Secret,
    },
    /// With a token.
    Token(Secret),
    /// With a file of credentials, as `nsc` writes it: a JWT and the seed of its key.
    Credentials(Secret),
}

/// A subject in which names stand for themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Channel,
    Device,
    Group,
}

const PLACES: [(&str, Part); 3] = [
    ("{channel}", Part::Channel),
    ("{device}", Part::Device),
    ("{group}", Part::Group),
];

impl Subject {
    /// Reads one, or says what is wrong and what to do.
    pub fn parse(written: &str) -> Result<Self, String> {
        let bad = |wrong: &str| Err(format!("{wrong}; write one such as \"{SUBJECT}\""));
        if written.is_empty() || written.len() > LONGEST_SUBJECT {
            return bad("is no subject of 1 to 256 bytes");
        }
        if written.contains(|c: char| c.is_whitespace() || c.is_control() || "*>".contains(c)) {
            return bad("has a space or a wildcard in it");
        }
        if written.split('.').any(str::is_empty) {
            return bad("has an empty part between its dots");
        }
        let first = written.split('.').next().unwrap_or_default();
        if first.contains('{') || first.starts_with(['$', '_']) {
            return bad("does not begin with a word of its own");
        }
        let mut parts = Vec::new();
        let mut rest = written;
        while !rest.is_empty() {
            if let Some((place, part)) = PLACES.iter().find(|(place, _)| rest.starts_with(place)) {
                parts.push(part.clone());
                rest = rest.get(place.len()..).unwrap_or_default();
                continue;
            }
            if rest.starts_with(['{', '}']) {
                return bad(
                    "has braces around something else than `{channel}`, `{device}` or `{group}`",
                );
            }
            let until = rest.find(['{', '}']).unwrap_or(rest.len());
            let (text, behind) = rest.split_at(until);
            parts.push(Part::Text(text.to_owned()));
            rest = behind;
        }
        Ok(Self { parts })
    }

    /// The subject for these names. What would mean something else in a subject, or nothing, becomes `_`.
    pub fn fill(&self, channel: &str, device: &str, group: &str) -> String {
        let mut subject = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => subject.push_str(text),
                Part::Channel => push_name(&mut subject, channel),
                Part::Device => push_name(&mut subject, device),
                Part::Group => push_name(&mut subject, group),
            }
        }
        subject
    }

    /// What all subjects match that this one becomes.
    pub fn pattern(&self) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Channel | Part::Device | Part::Group => text.push('*'),
            }
        }
        // A wildcard stands for a whole part.
        let parts = text.split('.');
        let parts: Vec<&str> = parts
            .map(|part| if part.contains('*') { "*" } else { part })
            .collect();
        parts.join(".")
    }
}

fn push_name(subject: &mut String, name: &str) {
    if name.is_empty() {
        subject.push('_');
    }
    let escaped = |c: char| match c.is_whitespace() || c.is_control() || ".*>".contains(c) {
        true => '_',
        false => c,
    };
    subject.extend(name.chars().map(escaped));
}

/// Reads the keys of its own; `None` if there is no such sink to speak of, which was reported.
pub(super) fn nats(section: &Section<'_>, folder: &Path) -> Option<NatsSink> {
    let login = login(section, folder);
    let subject = subject(section);
    let stream = stream(section);
    let create = section.boolean("create", true);
    let minute = Duration::from_secs(60);
    let duplicate_window = section.duration(
        "duplicate_window",
        2 * minute,
        Duration::from_secs(1)..=24 * 60 * minute,
    );
    let url = url(section)?;
    let tls = match url.scheme == "tls" {
        true => Some(address::tls(section, folder)),
        false => {
            for key in ["ca", "cert", "key", "server_name"] {
                if section.has(key) {
                    section.fault_at(
                        key,
                        format!("`{key}` belongs to TLS; begin the URL with tls://"),
                    );
                }
            }
            None
        }
    };
    Some(NatsSink {
        host: url.host,
        port: url.port.unwrap_or(4222),
        tls,
        login: login?,
        subject: subject?,
        stream,
        create,
        duplicate_window,
    })
}

fn url(section: &Section<'_>) -> Option<ServerUrl> {
    let written = section.required("url", EXAMPLE)?;
    let wrong = match ServerUrl::parse(written, SCHEMES, EXAMPLE) {
        Err(wrong) => wrong,
        Ok(url) if url.user.is_some() => {
            "names a user; write it as `user`, beside its `password`".to_owned()
        }
        Ok(url) if !url.path.is_empty() => {
            format!("has something behind its port; write it as in \"{EXAMPLE}\"")
        }
        Ok(url) => return Some(url),
    };
    section.fault_at(
        "url",
        match wrong == PASSWORD_INSIDE {
            true => wrong,
            false => format!("{} {wrong}", without_secrets(written)),
        },
    );
    None
}

fn login(section: &Section<'_>, folder: &Path) -> Option<NatsLogin> {
    let given: Vec<&str> = ["user", "token", "creds"]
        .into_iter()
        .filter(|key| section.has(key))
        .collect();
    if let [first, second, ..] = given[..] {
        section.fault_at(
            second,
            format!("`{first}` and `{second}` are two ways to log in; keep one of them"),
        );
        return None;
    }
    if section.has("password") && !section.has("user") {
        section.fault_at("password", "`password` is there without its `user`; add it");
        return None;
    }
    match given.first() {
        None => Some(NatsLogin::Nobody),
        Some(&"token") => secret(section, "token", folder).map(NatsLogin::Token),
        Some(&"creds") => secret(section, "creds", folder).map(NatsLogin::Credentials),
        Some(_) => {
            let user = section.string("user", "bulkhead")?.to_owned();
            if !section.has("password") {
                section.fault_at(
                    "user",
                    "`user` is there without its `password`; add one such as `password = \"env:BULKHEAD_PASSWORD\"`",
                );
            }
            let password = secret(section, "password", folder)?;
            Some(NatsLogin::Password { user, password })
        }
    }
}

fn subject(section: &Section<'_>) -> Option<Subject> {
    let written = section.string("subject", SUBJECT).unwrap_or(SUBJECT);
    Subject::parse(written)
        .map_err(|wrong| section.fault_at("subject", format!("{} {wrong}", quoted(written))))
        .ok()
}

fn stream(section: &Section<'_>) -> String {
    let name = section.string("stream", STREAM).unwrap_or(STREAM);
    let right = (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    if !right {
        section.fault_at(
            "stream",
            format!(
                "{} is no name of a stream; use 1 to 64 letters, digits, `_` or `-`",
                quoted(name)
            ),
        );
    }
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_filled_with_names_that_stay_in_their_place() {
        let check = |template: &str, pattern: &str, filled: &str| {
            let subject = Subject::parse(template).unwrap();
            assert_eq!(subject.pattern(), pattern, "{template}");
            assert_eq!(
                subject.fill("press-3.a", "a b>", "*\u{7f}ö"),
                filled,
                "{template}"
            );
        };
        check(SUBJECT, "bulkhead.*.*", "bulkhead.press-3_a.__ö");
        check("plant", "plant", "plant");
        check("a.x-{channel}-{device}.b", "a.*.b", "a.x-press-3_a-a_b_.b");
        let subject = Subject::parse(SUBJECT).unwrap();
        assert_eq!(subject.fill("a", "", ""), "bulkhead.a._");
    }

    #[test]
    fn what_is_no_subject_is_refused() {
        for bad in [
            "",
            ".",
            "a.",
            "a..b",
            "a b",
            "a.*",
            "a.>",
            "{channel}.a",
            "$JS.a",
            "_INBOX.a",
            "a.{tag}",
            "a.{channel",
            "a.channel}",
            "a.{{channel}}",
            &"a".repeat(257),
        ] {
            assert!(Subject::parse(bad).is_err(), "{bad}");
        }
    }
}
