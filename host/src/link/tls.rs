//! `tls://host:port`, by rustls.
//!
//! The files of certificates and keys are read anew at each dial, so what was renewed holds from the next connection
//! on. Without `ca` the system's own authorities are believed, which the operator of the machine keeps (read once);
//! with it, only those of the file.
//!
//! In TLS 1.3 the client has finished before the server has looked at its certificate: a server that refuses it ends a
//! stream that is up already.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, AlertDescription, CertificateError, ClientConfig, RootCertStore};

use super::error::DialError;
use super::grant::{self, TlsPermit};
use super::tcp;
use super::transport::Stream;
use super::unsent::TakesBack;
use crate::config::{Heartbeat, Identity, Link, Tls};

/// The most bytes of one file of certificates.
const MAX_FILE: u64 = 1 << 20;

/// Why there is no TLS to speak of. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsFault {
    /// A file cannot be read.
    #[error("`{key}` cannot be read: {path}: {cause}; correct the path, or let the host read the file", path = path.display())]
    Unreadable {
        /// The key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A file is not what it should be.
    #[error("`{key}` ({path}) has no {wanted} in it: {cause}; write a PEM file that has", path = path.display())]
    Void {
        /// The key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What should be there.
        wanted: &'static str,
        /// What is wrong.
        cause: String,
    },
    /// Certificate and key do not belong together, or cannot be used.
    #[error("`cert` ({cert}) and `key` ({key}) cannot be used: {cause}; write the private key of that certificate", cert = cert.display(), key = key.display())]
    Identity {
        /// The file of the certificate.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// Why.
        cause: rustls::Error,
    },
    /// The system has none of its own.
    #[error(
        "this machine has no certificate authorities of its own; install them (ca-certificates), or name the plant's with `ca`"
    )]
    NoSystemRoots,
    /// The name cannot be in a certificate.
    #[error(
        "{name} is no name that a certificate could have; write the one that it has as `server_name`"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The library says no.
    #[error("TLS cannot be set up: {0}")]
    Library(rustls::Error),
}

/// Looks at all files that a link's TLS needs, as a dial does.
///
/// # Errors
///
/// What is wrong with them.
pub fn check_tls(tls: &Tls) -> Result<(), TlsFault> {
    client_config(tls).map(drop)
}

pub(super) async fn dial(
    permit: TlsPermit,
    heartbeat: Heartbeat,
    deadline: Instant,
) -> Result<Stream, DialError> {
    let (permit, tls, name) = permit.into_parts();
    let config = load(tls).await?;
    let name = server_name(&name).map_err(DialError::TlsSetUp)?;
    let (stream, address) = tcp::connect_any(&permit, heartbeat, deadline).await?;
    let ends = (address.to_string(), tcp::local(&stream));
    shake_hands(config, name, TakesBack::new(stream), ends, deadline).await
}

/// Begins TLS on a stream that is up, as the link's keys say.
pub(super) async fn begin(
    link: &Link,
    target: Option<&str>,
    stream: Stream,
    deadline: Instant,
) -> Result<Stream, DialError> {
    let permit = grant::start_tls(link, target)?;
    let Stream {
        reader,
        writer,
        peer,
        local,
        secured: _,
    } = stream;
    let (tls, name) = permit;
    let config = load(tls).await?;
    let name = server_name(&name).map_err(DialError::TlsSetUp)?;
    let stream = tokio::io::join(reader, writer);
    shake_hands(config, name, stream, (peer, local), deadline).await
}

async fn load(tls: Tls) -> Result<Arc<ClientConfig>, DialError> {
    let loaded = spawn_blocking(move || client_config(&tls)).await;
    let loaded = loaded
        .unwrap_or_else(|gone| Err(TlsFault::Library(rustls::Error::General(gone.to_string()))));
    loaded.map_err(DialError::TlsSetUp)
}

/// The name as a certificate has it.
fn server_name(name: &str) -> Result<ServerName<'static>, TlsFault> {
    ServerName::try_from(name.trim_end_matches('.').to_owned()).map_err(|_| TlsFault::Name {
        name: name.to_owned(),
    })
}

async fn shake_hands<S>(
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    stream: S,
    (peer, local): (String, Option<IpAddr>),
    deadline: Instant,
) -> Result<Stream, DialError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let began = Instant::now();
    let shown = name.to_str().into_owned();
    match timeout_at(deadline, TlsConnector::from(config).connect(name, stream)).await {
        Ok(Ok(stream)) => {
            let (reader, writer) = tokio::io::split(stream);
            Ok(Stream {
                reader: Box::new(reader),
                writer: Box::new(writer),
                peer,
                local,
                secured: true,
            })
        }
        Ok(Err(cause)) => Err(match fault_of(&cause) {
            Some(fault) => DialError::TlsFailed {
                peer,
                why: explain(fault, &shown),
            },
            None if cause.kind() == io::ErrorKind::UnexpectedEof => DialError::TlsFailed {
                peer,
                why: "the peer hung up during the handshake; check that it speaks TLS on this port"
                    .to_owned(),
            },
            None => DialError::TlsBroken { peer, cause },
        }),
        Err(_elapsed) => Err(DialError::TlsTimedOut {
            peer,
            within: deadline.duration_since(began),
        }),
    }
}

pub(crate) fn client_config(tls: &Tls) -> Result<Arc<ClientConfig>, TlsFault> {
    let roots = match &tls.ca {
        Some(path) => Arc::new(authorities(path)?),
        None => system_roots()?,
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsFault::Library)?
        .with_root_certificates(roots);
    let config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some(Identity { cert, key }) => {
            let chain = certificates("cert", cert)?;
            let secret = PrivateKeyDer::from_pem_slice(&read("key", key)?).map_err(|cause| {
                TlsFault::Void {
                    key: "key",
                    path: key.clone(),
                    wanted: "private key",
                    cause: broken_pem(&cause),
                }
            })?;
            builder
                .with_client_auth_cert(chain, secret)
                .map_err(|cause| TlsFault::Identity {
                    cert: cert.clone(),
                    key: key.clone(),
                    cause,
                })?
        }
    };
    Ok(Arc::new(config))
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsFault> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca", path)? {
        roots.add(certificate).map_err(|cause| TlsFault::Void {
            key: "ca",
            path: path.to_owned(),
            wanted: "certificate of an authority",
            cause: cause.to_string(),
        })?;
    }
    Ok(roots)
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
    let void = |cause: String| TlsFault::Void {
        key,
        path: path.to_owned(),
        wanted: "certificate",
        cause,
    };
    let text = read(key, path)?;
    let all = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|cause| void(broken_pem(&cause)))?;
    if all.is_empty() {
        return Err(void("no section in it is one".to_owned()));
    }
    Ok(all)
}

/// Never the file's own text: it may be a key.
fn broken_pem(cause: &pem::Error) -> String {
    match cause {
        pem::Error::NoItemsFound => "no section in it is one".to_owned(),
        pem::Error::MissingSectionEnd { .. } => "a section has no end".to_owned(),
        pem::Error::Base64Decode(_) => "a section is no base64".to_owned(),
        _ => "it is no PEM".to_owned(),
    }
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsFault> {
    use std::io::Read as _;

    let bounded = || {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(io::Error::other("it is longer than 1 MiB"));
        }
        Ok(bytes)
    };
    bounded().map_err(|cause| TlsFault::Unreadable {
        key,
        path: path.to_owned(),
        cause,
    })
}

fn system_roots() -> Result<Arc<RootCertStore>, TlsFault> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "certificate authorities of the system are left out");
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        Arc::new(roots)
    });
    if roots.is_empty() {
        return Err(TlsFault::NoSystemRoots);
    }
    Ok(Arc::clone(roots))
}

/// The fault of TLS in an error of a stream, if it is one.
pub(super) fn fault_of(cause: &io::Error) -> Option<&rustls::Error> {
    cause.get_ref()?.downcast_ref()
}

/// The error of a stream that was up, as people should read it.
pub(crate) fn explained(cause: io::Error) -> io::Error {
    match fault_of(&cause) {
        Some(fault) => io::Error::new(cause.kind(), explain(fault, "the peer")),
        None => cause,
    }
}

/// What is wrong, and what to do. `name` is what the certificate should be for.
fn explain(fault: &rustls::Error, name: &str) -> String {
    use rustls::Error;

    let (what, remedy) = match fault {
        Error::InvalidCertificate(fault) => return explain_certificate(fault, name),
        Error::AlertReceived(alert) => return explain_alert(*alert),
        Error::NoCertificatesPresented => {
            ("the peer shows no certificate".to_owned(), "give it one")
        }
        Error::InvalidMessage(_) => (
            "the peer does not speak TLS".to_owned(),
            "check the port, or write tcp:// if it is plain",
        ),
        Error::PeerIncompatible(why) => (
            format!("the peer has no version or cipher of TLS that is safe ({why:?})"),
            "let it offer TLS 1.2 or 1.3",
        ),
        other => (format!("TLS failed ({other})"), "check the peer's own log"),
    };
    format!("{what}; {remedy}")
}

fn explain_certificate(fault: &CertificateError, name: &str) -> String {
    use CertificateError as Wrong;

    match fault {
        Wrong::Expired | Wrong::ExpiredContext { .. } => {
            let since = match fault {
                Wrong::ExpiredContext { not_after, .. } => format!(" on {}", date(*not_after)),
                _ => String::new(),
            };
            format!("the peer's certificate expired{since}; renew it, or set this machine's clock")
        }
        Wrong::NotValidYet | Wrong::NotValidYetContext { .. } => {
            "the peer's certificate is not valid yet; set the clock of this machine, or wait".to_owned()
        }
        Wrong::NotValidForName => {
            format!("the peer's certificate is not for {name}; write the name that it is for as `server_name`, or give the peer one for {name}")
        }
        Wrong::NotValidForNameContext { presented, .. } => {
            let names = presented.iter().map(|name| crate::text::shown(name, 200)).take(5).collect::<Vec<_>>();
            format!(
                "the peer's certificate is not for {name} but for {}; write the name that it is for as `server_name`, or give the peer one for {name}",
                if names.is_empty() { "nobody".to_owned() } else { names.join(", ") }
            )
        }
        Wrong::UnknownIssuer => {
            "the peer's certificate comes from an unknown authority; name the file of that authority's certificate as `ca`".to_owned()
        }
        Wrong::Revoked => "the peer's certificate was revoked; give it another".to_owned(),
        Wrong::InvalidPurpose | Wrong::InvalidPurposeContext { .. } => {
            "the peer's certificate is not for servers; give it one that is".to_owned()
        }
        Wrong::BadSignature => {
            "the peer's certificate is not signed by the authority in `ca`; name the right one".to_owned()
        }
        other => format!("the peer's certificate is not accepted ({other}); give it another"),
    }
}

fn explain_alert(alert: AlertDescription) -> String {
    use AlertDescription as Alert;

    let (what, remedy) = match alert {
        Alert::CertificateRequired => (
            "the peer asks for a certificate of ours",
            "add `cert` and `key`",
        ),
        Alert::UnknownCA => (
            "the peer does not know the authority of our certificate",
            "let it know that one, or write a `cert` of one that it knows",
        ),
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateUnknown
        | Alert::AccessDenied => (
            "the peer does not accept our certificate",
            "write one that it accepts as `cert` and `key`",
        ),
        Alert::CertificateExpired => (
            "the peer says that our certificate expired",
            "renew `cert`, or set its clock",
        ),
        Alert::HandshakeFailure => (
            "the peer refuses the handshake",
            "add `cert` and `key` if it asks for them, and check the ciphers that it offers",
        ),
        Alert::ProtocolVersion => (
            "the peer has no version of TLS that is safe",
            "let it offer TLS 1.2 or 1.3",
        ),
        Alert::UnrecognisedName => (
            "the peer does not know the name that we call it by",
            "write its own as `server_name`",
        ),
        other => return format!("the peer refuses ({other:?}); check its own log"),
    };
    format!("{what}; {remedy}")
}

/// The day, in UTC.
fn date(moment: rustls::pki_types::UnixTime) -> String {
    i64::try_from(moment.as_secs())
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(
            || "a day long gone".to_owned(),
            |at| at.strftime("%F").to_string(),
        )
}

/// The name by which a host is checked, where the operator wrote none.
pub(super) fn name_for(tls: &Tls, host: &str) -> String {
    match &tls.server_name {
        Some(name) => name.clone(),
        None => match host.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().to_string(),
            Err(_) => host.to_owned(),
        },
    }
}
