//! What must not leave the host in a bundle: values of settings that are secrets.
//!
//! A string in the settings (of the channel, its devices and tags) is a secret if
//! - its name says so: it contains `password`, `passwd`, `passphrase`, `secret`, `token`, `credential`, `api_key`, `apikey`,
//!   `private_key` or `access_key`, or is `key`, `pin`, `psk` or `pwd`, in small or large letters, with `-` or `_`; or stands
//!   anywhere within a table or list of such a name; or
//! - the driver's own schema marks the property as `"writeOnly": true` or `"format": "password"`.
//!
//! Each is replaced by as many `x` as it has bytes, so that the driver sees as much as it saw. Where a secret of at least
//! six bytes occurs in what the driver was given later (a device that echoes it, a saved state that holds it), it is
//! replaced there too. What this cannot know: a secret that a driver encodes before it keeps it.

use serde_json::Value as Json;

/// Parts of names that make a secret.
const PARTS: [&str; 10] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "apikey",
    "privatekey",
    "accesskey",
    "presharedkey",
];
/// Whole names that do.
const WHOLE: [&str; 4] = ["key", "pin", "psk", "pwd"];
/// Shorter ones are not looked for in what came later: they could be anything.
const LEAST_SOUGHT: usize = 6;
/// What they are replaced by.
const FILLER: u8 = b'x';

/// The secrets of one channel.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// Names that the driver's schemas mark.
    marked: Vec<String>,
    found: Vec<String>,
}

impl Secrets {
    /// Knows what the driver's schemas (JSON Schema, as text) mark.
    pub fn marked_by(schemas: &[&str]) -> Self {
        let mut marked = Vec::new();
        for schema in schemas {
            if let Ok(schema) = serde_json::from_str::<Json>(schema) {
                collect_marked(&schema, &mut marked);
            }
        }
        marked.sort_unstable();
        marked.dedup();
        Self {
            marked,
            found: Vec::new(),
        }
    }

    /// How many different ones were found.
    pub fn count(&self) -> usize {
        self.found.len()
    }

    /// Replaces the secrets in settings (JSON, as text), and remembers them.
    pub fn mask_settings(&mut self, settings: &str) -> String {
        let Ok(mut json) = serde_json::from_str::<Json>(settings) else {
            return settings.to_owned();
        };
        let before = json.clone();
        self.mask_json(&mut json, false);
        if json == before {
            // Not a byte is changed where there is nothing to hide.
            return settings.to_owned();
        }
        json.to_string()
    }

    fn mask_json(&mut self, json: &mut Json, secret: bool) {
        match json {
            Json::String(text) if secret && !text.is_empty() => {
                let filler = char::from(FILLER).to_string().repeat(text.len());
                let text = std::mem::replace(text, filler);
                if !self.found.contains(&text) {
                    self.found.push(text);
                }
            }
            Json::String(_) | Json::Null | Json::Bool(_) | Json::Number(_) => {}
            Json::Array(all) => all.iter_mut().for_each(|item| self.mask_json(item, secret)),
            Json::Object(all) => {
                for (name, value) in all {
                    let secret = secret || self.is_secret(name);
                    self.mask_json(value, secret);
                }
            }
        }
    }

    fn is_secret(&self, name: &str) -> bool {
        let plain: String = name
            .chars()
            .filter(|character| !matches!(character, '_' | '-' | '.' | ' '))
            .map(|character| character.to_ascii_lowercase())
            .collect();
        WHOLE.contains(&plain.as_str())
            || PARTS.iter().any(|part| plain.contains(part))
            || self.marked.iter().any(|marked| marked == name)
    }

    /// Replaces, in place, every occurrence of a secret that was found.
    pub fn mask_bytes(&self, bytes: &mut [u8]) {
        for secret in &self.found {
            let secret = secret.as_bytes();
            if secret.len() < LEAST_SOUGHT {
                continue;
            }
            let mut from = 0;
            while let Some(at) = position(bytes.get(from..).unwrap_or_default(), secret) {
                if let Some(found) = bytes.get_mut(from + at..from + at + secret.len()) {
                    found.fill(FILLER);
                }
                from += at + secret.len();
            }
        }
    }

    /// Replaces every occurrence in a text.
    pub fn mask_text(&self, text: &str) -> String {
        let mut masked = text.to_owned();
        for secret in self
            .found
            .iter()
            .filter(|secret| secret.len() >= LEAST_SOUGHT)
        {
            if masked.contains(secret.as_str()) {
                let filler = char::from(FILLER).to_string().repeat(secret.len());
                masked = masked.replace(secret.as_str(), &filler);
            }
        }
        masked
    }

    /// Whether there is anything to look for in what came later.
    pub fn are_sought(&self) -> bool {
        self.found.iter().any(|secret| secret.len() >= LEAST_SOUGHT)
    }
}

fn position(bytes: &[u8], sought: &[u8]) -> Option<usize> {
    bytes
        .windows(sought.len())
        .position(|window| window == sought)
}

fn collect_marked(schema: &Json, marked: &mut Vec<String>) {
    match schema {
        Json::Object(all) => {
            if let Some(Json::Object(properties)) = all.get("properties") {
                for (name, property) in properties {
                    let says = |key: &str, value: Json| property.get(key) == Some(&value);
                    if says("writeOnly", Json::Bool(true)) || says("format", "password".into()) {
                        marked.push(name.clone());
                    }
                }
            }
            all.values().for_each(|part| collect_marked(part, marked));
        }
        Json::Array(all) => all.iter().for_each(|part| collect_marked(part, marked)),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(settings: &str, masked: &str) {
        let schema = r#"{"properties": {"login": {"type": "object", "properties": {"word": {"writeOnly": true}}},
            "code": {"type": "string", "format": "password"}}}"#;
        assert_eq!(
            Secrets::marked_by(&[schema, "no schema"]).mask_settings(settings),
            masked
        );
    }

    #[test]
    fn secrets_are_known_by_their_names_and_by_the_schema() {
        check(r#"{"password":"äbc"}"#, r#"{"password":"xxxx"}"#);
        check(r#"{"API-Key":"abc","x":1}"#, r#"{"API-Key":"xxx","x":1}"#);
        check(
            r#"{"tokens":["a","bb"],"unit":"a"}"#,
            r#"{"tokens":["x","xx"],"unit":"a"}"#,
        );
        check(
            r#"{"secret":{"inner":{"deep":"abc"},"number":5}}"#,
            r#"{"secret":{"inner":{"deep":"xxx"},"number":5}}"#,
        );
        check(
            r#"{"code":"abc","login":{"word":"abc"}}"#,
            r#"{"code":"xxx","login":{"word":"xxx"}}"#,
        );
        check(
            r#"{ "key_frame": "i" ,"timeout":1}"#,
            r#"{ "key_frame": "i" ,"timeout":1}"#,
        );
        check("not json", "not json");
    }

    #[test]
    fn a_secret_is_replaced_wherever_it_comes_again() {
        let mut secrets = Secrets::default();
        assert!(!secrets.are_sought());
        secrets.mask_settings(r#"{"password":"hunter22","pin":"1234"}"#);
        assert_eq!(secrets.count(), 2);
        let mut bytes = b"..hunter22hunter22 1234 hunter2".to_vec();
        secrets.mask_bytes(&mut bytes);
        assert_eq!(bytes, b"..xxxxxxxxxxxxxxxx 1234 hunter2");
        assert_eq!(secrets.mask_text("said hunter22!"), "said xxxxxxxx!");
    }
}
