//! Certificates for tests, made by OpenSSL, and its server that shows them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::free_port;
use crate::process::Running;

/// An authority and what it signs, in a folder.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    name: &'static str,
}

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Authority {
    /// Makes a new one.
    ///
    /// # Errors
    ///
    /// Where `openssl` is missing or says no.
    pub fn new(folder: &Path, name: &'static str) -> Result<Self> {
        let this = Self {
            folder: folder.to_owned(),
            name,
        };
        let own = this.named(name);
        let subject = format!("/CN={name}");
        openssl(
            &[
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "30",
                "-subj",
                &subject,
            ],
            &[("-keyout", &own.key), ("-out", &own.cert)],
        )?;
        Ok(this)
    }

    /// Its own certificate: what `ca` names.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.named(self.name).cert
    }

    /// A certificate for a name (`DNS:plc.example`, `IP:127.0.0.1`), valid for so many days from now; negative: it expired
    /// so many days ago.
    ///
    /// # Errors
    ///
    /// Where `openssl` says no.
    pub fn sign(&self, file: &str, for_name: &str, days: i64) -> Result<Certificate> {
        let (own, leaf) = (self.named(self.name), self.named(file));
        let request = self.folder.join(format!("{file}.csr"));
        let extensions = self.folder.join(format!("{file}.ext"));
        fs::write(
            &extensions,
            format!("subjectAltName={for_name}\nbasicConstraints=CA:FALSE\n"),
        )?;
        openssl(
            &[
                "req",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-subj",
                &format!("/CN={file}"),
            ],
            &[("-keyout", &leaf.key), ("-out", &request)],
        )?;
        // `x509 -req` dates a certificate from now on; the past takes `ca`.
        let index = self.folder.join(format!("{file}.index"));
        fs::write(&index, "")?;
        let config = self.folder.join(format!("{file}.cnf"));
        fs::write(
            &config,
            format!(
                "[ca]\ndefault_ca=one\n[one]\ndatabase={}\nnew_certs_dir={}\ndefault_md=sha256\npolicy=any\nrand_serial=yes\n[any]\ncommonName=supplied\n",
                index.display(),
                self.folder.display(),
            ),
        )?;
        const DAY: i64 = 86_400;
        let now = i64::try_from(
            std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)?
                .as_secs(),
        )?;
        let end = now + days * DAY;
        let begin = end.min(now) - DAY;
        openssl(
            &[
                "ca",
                "-batch",
                "-notext",
                "-startdate",
                &asn1_time(begin)?,
                "-enddate",
                &asn1_time(end)?,
            ],
            &[
                ("-config", &config),
                ("-extfile", &extensions),
                ("-cert", &own.cert),
                ("-keyfile", &own.key),
                ("-in", &request),
                ("-out", &leaf.cert),
            ],
        )?;
        Ok(leaf)
    }

    fn named(&self, file: &str) -> Certificate {
        Certificate {
            cert: self.folder.join(format!("{file}.crt")),
            key: self.folder.join(format!("{file}.key")),
        }
    }
}

/// `YYYYMMDDHHMMSSZ`
fn asn1_time(seconds: i64) -> Result<String> {
    let date = Command::new("date")
        .args(["-u", "-d", &format!("@{seconds}"), "+%Y%m%d%H%M%SZ"])
        .output()
        .context("cannot run date")?;
    Ok(String::from_utf8(date.stdout)?.trim().to_owned())
}

fn openssl(arguments: &[&str], files: &[(&str, &PathBuf)]) -> Result<()> {
    let mut command = Command::new("openssl");
    command.args(arguments);
    for (option, file) in files {
        command.arg(option).arg(file);
    }
    let ended = command
        .output()
        .context("cannot run openssl; install it with `apt-get install --yes openssl`")?;
    ensure!(
        ended.status.success(),
        "openssl {arguments:?}: {}",
        String::from_utf8_lossy(&ended.stderr)
    );
    Ok(())
}

/// OpenSSL's `s_server`, which prints what comes and sends what it is told. Dropping it kills it.
#[derive(Debug)]
pub struct TlsServer {
    running: Running,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
}

impl TlsServer {
    /// Starts one that shows this certificate, with further options.
    ///
    /// # Errors
    ///
    /// Where it does not start.
    pub fn start(shown: &Certificate, options: &[&str]) -> Result<Self> {
        Self::start_at(free_port(), shown, options)
    }

    /// The same on a given port.
    ///
    /// # Errors
    ///
    /// Where it does not start.
    pub fn start_at(port: u16, shown: &Certificate, options: &[&str]) -> Result<Self> {
        let mut command = Command::new("openssl");
        command
            .args([
                "s_server",
                "-accept",
                &format!("127.0.0.1:{port}"),
                "-quiet",
                "-naccept",
                "1000",
            ])
            .arg("-cert")
            .arg(&shown.cert)
            .arg("-key")
            .arg(&shown.key)
            .args(options);
        let running = Running::start(&mut command)?;
        Ok(Self { running, port })
    }

    /// What has come, line by line, and what it is told to send.
    pub fn process(&mut self) -> &mut Running {
        &mut self.running
    }
}
