//! One connection to a database.
//!
//! It is driven by a task of its own, which ends with the [`Session`]. There is no connection without a limit of time, and none that
//! comes back by itself: a session that failed is dropped, and with it whatever it had begun.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{ChannelBinding, NoTls, TlsConnect, TlsStream as IsTlsStream};
use tokio_postgres::{Client, Config, Statement};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::fault::Fault;
use super::schema::{self, Statements};
use crate::config::PostgresSink;
use crate::link::client_config;

/// How long it may take until the server has let us in.
const LOGIN: Duration = Duration::from_secs(5);
/// After so long without a word the system asks whether the server is there, and so often.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// A connection that is ready for deliveries.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) copy: Statement,
    pub(super) copy_beside: Statement,
    pub(super) insert: Statement,
    pub(super) gap: Statement,
    /// Whether the table takes rows as they are sent. One that somebody made may have other types, to which they are converted
    /// on the long way only.
    pub(super) straight: bool,
    driver: JoinSet<()>,
}

impl Session {
    /// Opens one and makes the tables ready.
    pub(super) async fn open(sink: &PostgresSink) -> Result<Self, Fault> {
        let at = format!("{}:{}", sink.host, sink.port);
        let (mut client, driver) = match timeout(LOGIN, log_in(sink, &at)).await {
            Ok(logged_in) => logged_in?,
            Err(_elapsed) => return Err(Fault::NoAnswer { at, within: LOGIN }),
        };
        schema::prepare(&mut client, sink).await?;
        let statements = Statements::of(&sink.table);
        Ok(Self {
            copy: client.prepare(&statements.copy).await?,
            copy_beside: client.prepare(&statements.copy_beside).await?,
            insert: client.prepare(&statements.insert).await?,
            gap: client.prepare(&statements.gap).await?,
            straight: true,
            client,
            driver,
        })
    }

    /// Whether it can be used, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        !self.client.is_closed()
    }

    /// Says goodbye. The server needs no answer from us, and we none from it.
    pub(super) async fn close(self) {
        let Self {
            client, mut driver, ..
        } = self;
        drop(client);
        driver.join_next().await;
    }
}

async fn log_in(sink: &PostgresSink, at: &str) -> Result<(Client, JoinSet<()>), Fault> {
    let mut config = Config::new();
    config
        .user(&sink.user)
        .dbname(&sink.database)
        .application_name("bulkhead");
    // Secrets and certificates are read anew each time, so that what was renewed holds from now on.
    if let Some(secret) = sink.password.clone() {
        config.password(blocking(move || secret.read()).await??);
    }
    let tls = match sink.tls.clone() {
        None => None,
        Some(tls) => {
            let name = tls.server_name.clone().unwrap_or_else(|| sink.host.clone());
            let name = ServerName::try_from(name).map_err(|cause| Fault::Handshake {
                at: at.to_owned(),
                cause: cause.to_string(),
            })?;
            let config = blocking(move || client_config(&tls)).await??;
            Some(Tls { config, name })
        }
    };
    let unreachable = |cause| Fault::Unreachable {
        at: at.to_owned(),
        cause,
    };
    let stream = TcpStream::connect((&*sink.host, sink.port))
        .await
        .map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE);
    socket2::SockRef::from(&stream)
        .set_tcp_keepalive(&keepalive)
        .map_err(unreachable)?;
    let mut driver = JoinSet::new();
    let client = match tls {
        None => {
            config.ssl_mode(SslMode::Disable);
            let connected = config.connect_raw(stream, NoTls).await;
            let (client, connection) = connected.map_err(|error| Fault::of_login(error, at))?;
            driver.spawn(drive(connection));
            client
        }
        Some(tls) => {
            config.ssl_mode(SslMode::Require);
            let connected = config.connect_raw(stream, tls).await;
            let (client, connection) = connected.map_err(|error| Fault::of_login(error, at))?;
            driver.spawn(drive(connection));
            client
        }
    };
    Ok((client, driver))
}

/// Reads files without holding up others.
async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    spawn_blocking(read).await.map_err(|gone| Fault::Lost {
        cause: gone.to_string(),
    })
}

async fn drive(connection: impl Future<Output = Result<(), tokio_postgres::Error>>) {
    if let Err(error) = connection.await {
        // Whoever waits for an answer is told as well, in better words.
        tracing::debug!(%error, "the connection to a database ended");
    }
}

/// TLS by rustls. The SCRAM login is not bound to the channel: the server's certificate is checked by name and authority.
struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl TlsConnect<TcpStream> for Tls {
    type Stream = Encrypted;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Encrypted>> + Send>>;

    fn connect(self, stream: TcpStream) -> Self::Future {
        Box::pin(async move {
            let connector = TlsConnector::from(self.config);
            connector.connect(self.name, stream).await.map(Encrypted)
        })
    }
}

struct Encrypted(TlsStream<TcpStream>);

impl IsTlsStream for Encrypted {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
