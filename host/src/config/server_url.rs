//! The URL of a server that a sink delivers to: `scheme://user@host:port/path`.
//!
//! A password does not belong here: it would stand in the file, in shells and in logs. One that is found is refused and never repeated.

use std::net::Ipv6Addr;

use percent_encoding::percent_decode_str;

use super::address::is_host;
use super::fault::quoted;

/// A URL as a message may show it: where there may be a secret in it, only where it stands.
pub(super) fn without_secrets(written: &str) -> String {
    match written.contains(['@', '?']) {
        true => "`url`".to_owned(),
        false => quoted(written),
    }
}

/// What such a URL says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerUrl {
    pub(super) scheme: &'static str,
    pub(super) user: Option<String>,
    /// A name or an address, without brackets.
    pub(super) host: String,
    pub(super) port: Option<u16>,
    /// What stands behind the first slash after the host; empty where there is none.
    pub(super) path: String,
}

impl ServerUrl {
    /// Reads one that begins with one of `schemes`, or says what is wrong and what to do. Faults begin with a verb.
    pub(super) fn parse(
        written: &str,
        schemes: &'static [&'static str],
        example: &str,
    ) -> Result<Self, String> {
        let (scheme, rest) = written
            .split_once("://")
            .and_then(|(begun, rest)| {
                let known = schemes.iter().find(|scheme| **scheme == begun)?;
                Some((*known, rest))
            })
            .ok_or_else(|| {
                let known: Vec<String> = schemes.iter().map(|it| format!("{it}://")).collect();
                let known = known.join(" or ");
                format!("does not begin with {known}; write one such as \"{example}\"")
            })?;
        if rest.contains(['?', '#']) {
            return Err(format!(
                "has options behind its `?` or `#`; write them as keys of the sink, and the URL as in \"{example}\""
            ));
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        if user.is_some_and(|user| user.contains(':')) {
            // Faults quote what was written, so the caller must not.
            return Err(PASSWORD_INSIDE.to_owned());
        }
        let (host, port) = place_of(place, example)?;
        Ok(Self {
            scheme,
            user: user.map(|user| decoded(user, example)).transpose()?,
            host,
            port,
            path: decoded(path, example)?,
        })
    }
}

/// The fault of a URL that must not be quoted.
pub(super) const PASSWORD_INSIDE: &str = "the URL has a password inside; take it out, and say where it is found as in \
                                          `password = \"env:BULKHEAD_PASSWORD\"`";

fn decoded(part: &str, example: &str) -> Result<String, String> {
    let text = percent_decode_str(part).decode_utf8();
    text.ok()
        .filter(|text| !text.contains(|c: char| c.is_control()))
        .map(|text| text.into_owned())
        .ok_or_else(|| {
            format!(
                "has a part that is no text; write `%` as `%25`, and the rest as in \"{example}\""
            )
        })
}

/// A host with or without a port.
fn place_of(place: &str, example: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (place, None),
    };
    let port = match port {
        None => None,
        Some(digits) => {
            let number = digits.parse::<u16>().ok().filter(|number| *number > 0);
            let number = number.filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()));
            Some(
                number
                    .ok_or("has no port from 1 to 65535; mend what stands after the last colon")?,
            )
        }
    };
    let bracketed = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let host = match bracketed {
        Some(address) => address.parse::<Ipv6Addr>().is_ok().then_some(address),
        None => is_host(host).then_some(host),
    };
    let host = host.ok_or_else(|| {
        format!(
            "has no host; write a name, an IPv4 address, or an IPv6 address in brackets, as in \"{example}\""
        )
    })?;
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMES: &[&str] = &["postgres", "postgresql"];

    fn parse(written: &str) -> Result<ServerUrl, String> {
        ServerUrl::parse(written, SCHEMES, "postgres://bulkhead@db:5432/plant")
    }

    #[test]
    fn a_url_is_read_part_by_part() {
        let check = |written, user: Option<&str>, host: &str, port, path: &str| {
            let url = parse(written).unwrap();
            assert_eq!(
                (url.user.as_deref(), &*url.host, url.port, &*url.path),
                (user, host, port, path),
                "{written}"
            );
        };
        check(
            "postgres://me@db:5433/plant",
            Some("me"),
            "db",
            Some(5433),
            "plant",
        );
        check("postgresql://db", None, "db", None, "");
        check(
            "postgres://a%40b@[fd00::9]:1/p",
            Some("a@b"),
            "fd00::9",
            Some(1),
            "p",
        );
        check(
            "postgres://me@[fd00::9]/p",
            Some("me"),
            "fd00::9",
            None,
            "p",
        );
        check(
            "postgres://me@10.0.0.9/a%2Fb",
            Some("me"),
            "10.0.0.9",
            None,
            "a/b",
        );
    }

    #[test]
    fn what_is_wrong_is_said_and_a_password_never_repeated() {
        for bad in [
            "",
            "db",
            "mysql://db",
            "POSTGRES://db",
            "postgres://",
            "postgres://me@",
            "postgres://me@db:0/p",
            "postgres://me@db:65536/p",
            "postgres://me@db:+1/p",
            "postgres://me@fd00::9/p",
            "postgres://me@[db]/p",
            "postgres://me@a b/p",
            "postgres://me@db/p?sslmode=require",
            "postgres://me@db/%ff",
            "postgres://me@db/a%00b",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        for secret in [
            "postgres://me:hush@db/p",
            "postgres://:hush@db/p",
            "postgres://me:a@hush@db/p",
        ] {
            let fault = parse(secret).unwrap_err();
            assert_eq!(fault, PASSWORD_INSIDE);
            assert!(!fault.contains("hush"), "{fault}");
        }
    }
}
