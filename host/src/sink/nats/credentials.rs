//! Logging in with credentials as `nsc` writes them: a JWT, and the seed of the key that its owner signs with.
//!
//! The server sends a word that is used once, and is answered with its signature (NATS documentation, "NKeys"). The seed stays here.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::Ed25519KeyPair;

const JWT: &str = "NATS USER JWT";
const SEED: &str = "USER NKEY SEED";
/// The bytes of an Ed25519 seed.
const SEED_BYTES: usize = 32;

/// What a file of credentials holds.
pub(super) struct Credentials {
    pub(super) jwt: String,
    key: Ed25519KeyPair,
}

/// What is wrong with such a file. Never its text: it is a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadCredentials {
    #[error("`creds` has no JWT in it; write the file that `nsc` made")]
    NoJwt,
    #[error("`creds` has no seed of a user's key in it; write the file that `nsc` made")]
    NoSeed,
    #[error("the seed in `creds` is damaged; make the file anew")]
    Damaged,
}

impl Credentials {
    pub(super) fn parse(text: &str) -> Result<Self, BadCredentials> {
        let jwt = section(text, JWT).ok_or(BadCredentials::NoJwt)?;
        let seed = section(text, SEED).ok_or(BadCredentials::NoSeed)?;
        let seed = seed_of(&seed).ok_or(BadCredentials::Damaged)?;
        let key =
            Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| BadCredentials::Damaged)?;
        Ok(Self { jwt, key })
    }

    /// The signature of what the server sent, as it wants it.
    pub(super) fn sign(&self, nonce: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.key.sign(nonce.as_bytes()))
    }
}

/// The line between `-----BEGIN name-----` and a line of dashes.
fn section(text: &str, name: &str) -> Option<String> {
    let begun = format!("BEGIN {name}");
    let mut lines = text
        .lines()
        .skip_while(|line| !line.contains(&begun))
        .skip(1);
    let line = lines.find(|line| !line.trim().is_empty())?.trim();
    (!line.starts_with('-')).then(|| line.to_owned())
}

/// A seed is base32 without padding: two bytes of prefix, the seed, and a checksum (CRC-16/XMODEM, low byte first).
fn seed_of(text: &str) -> Option<[u8; SEED_BYTES]> {
    /// `S` for a seed in the first five bits, `U` for a user's key in the next five.
    const PREFIX: [u8; 2] = [0b1001_0101, 0];
    let bytes = base32(text)?;
    let (body, checksum) = bytes.split_last_chunk::<2>()?;
    let seed: [u8; SEED_BYTES] = body.strip_prefix(&PREFIX)?.try_into().ok()?;
    (crc16(body) == u16::from_le_bytes(*checksum)).then_some(seed)
}

/// RFC 4648, section 6, without padding.
fn base32(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8);
    let (mut held, mut bits) = (0u32, 0u32);
    for character in text.bytes() {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'2'..=b'7' => character - b'2' + 26,
            _ => return None,
        };
        held = held << 5 | u32::from(value);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff).ok()?);
            held &= (1 << bits) - 1;
        }
    }
    Some(bytes)
}

fn crc16(bytes: &[u8]) -> u16 {
    let mut crc = 0u16;
    for byte in bytes {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = match crc & 0x8000 {
                0 => crc << 1,
                _ => crc << 1 ^ 0x1021,
            };
        }
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(bytes: &[u8]) -> String {
        let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
        let bits: Vec<char> = bits.chars().collect();
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        bits.chunks(5)
            .map(|five| {
                let five: String = five.iter().collect();
                let value = usize::from_str_radix(&format!("{five:0<5}"), 2).unwrap();
                char::from(letters[value])
            })
            .collect()
    }

    fn seed(prefix: [u8; 2], seed: [u8; 32]) -> String {
        let mut bytes = prefix.to_vec();
        bytes.extend(seed);
        bytes.extend(crc16(&bytes).to_le_bytes());
        encoded(&bytes)
    }

    fn file(seed: &str) -> String {
        format!(
            "-----BEGIN NATS USER JWT-----\neyJ.e.s\n------END NATS USER JWT------\n\nkeep it\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    }

    #[test]
    fn a_file_of_credentials_signs() {
        // RFC 8032, section 7.1, test 2.
        let key = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
        let bytes: Vec<u8> = (0..32)
            .map(|at| u8::from_str_radix(&key[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        let text = seed([0x95, 0], bytes.try_into().unwrap());
        assert!(text.starts_with("SU"), "{text}");
        let credentials = Credentials::parse(&file(&text)).unwrap();
        assert_eq!(credentials.jwt, "eyJ.e.s");
        let signature = credentials.sign("r");
        assert!(
            signature.starts_with("kqAJqfDUyrhyDoILX2QlQKKye1QWUD-Ps3YiI-vb"),
            "{signature}"
        );
    }

    #[test]
    fn what_is_wrong_with_it_is_said_without_it() {
        let good = seed([0x95, 0], [7; 32]);
        let check =
            |text: &str, wrong| assert_eq!(Credentials::parse(text).err(), Some(wrong), "{text}");
        assert!(Credentials::parse(&file(&good)).is_ok());
        check("", BadCredentials::NoJwt);
        check(&file("").replace("SEED", "SEE"), BadCredentials::NoSeed);
        check(&file(&good[1..]), BadCredentials::Damaged);
        check(&file(&good.to_lowercase()), BadCredentials::Damaged);
        check(&file(&good.replace("AO", "AP")), BadCredentials::Damaged);
        check(&file(&seed([0x90, 0], [7; 32])), BadCredentials::Damaged);
    }
}
