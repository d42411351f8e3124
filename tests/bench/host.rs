//! Hosts for the bench: from TOML, as an operator would write it. One after the other they use the same folder, so that
//! drivers are compiled once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bulkhead::config::{self, Origin};
use bulkhead::engine::Compiler;
use bulkhead::lifecycle::State;
use bulkhead::supervisor::{ChannelHandle, Host};

/// A host.
pub(crate) struct BenchHost {
    pub(crate) host: Host,
}

impl BenchHost {
    /// Starts a host, and waits until all its channels run.
    pub(crate) async fn start(channels: &str) -> Result<Self> {
        let folder = root()?.join("target/bench");
        std::fs::create_dir_all(&folder)?;
        // What an earlier run kept (dead letters, histories) is none of this one's business.
        let kept = folder.join("data/bulkhead.redb");
        if kept.exists() {
            std::fs::remove_file(kept)?;
        }
        let text = format!(
            "[host]\ndata_dir = \"data\"\nrestarts_per_second = 10_000\nrestart_burst = 10_000\n[http]\nlisten = \"off\"\n{channels}"
        );
        let origin = Origin {
            name: "bench.toml".into(),
            folder,
        };
        let config = config::parse(&text, &origin).map_err(|faults| anyhow::anyhow!("{faults}"))?;
        let host = Host::start(config, Compiler::InProcess, &|_| {}).await?;
        for channel in &*host.channels() {
            if channel.config().enabled {
                running(channel, 0).await?;
            }
        }
        Ok(Self { host })
    }

    /// The only channel.
    pub(crate) fn channel(&self) -> Result<Arc<ChannelHandle>> {
        let channels = self.host.channels();
        let first = channels.first().cloned();
        first.context("the bench's host has a channel")
    }

    /// Stops it.
    pub(crate) async fn stop(self) {
        self.host.stop(Duration::from_secs(10)).await;
    }
}

/// Waits until a channel runs an incarnation after this one.
pub(crate) async fn running(channel: &ChannelHandle, after: u64) -> Result<u64> {
    let mut status = channel.watch();
    let status = status
        .wait_for(|status| {
            status.state == State::Broken
                || (status.state == State::Running && status.incarnation > after)
        })
        .await?;
    if status.state == State::Broken {
        bail!("channel {} is broken: {}", channel.id(), status.reason);
    }
    Ok(status.incarnation)
}

/// Where a built driver lies; guests of the tests under `guests/`.
pub(crate) fn driver(name: &str) -> Result<PathBuf> {
    let path = root()?
        .join("target/drivers")
        .join(name)
        .with_extension("wasm");
    if !path.is_file() {
        bail!("{} is missing; run `cargo xtask drivers`", path.display());
    }
    Ok(path)
}

/// The root of the repository.
pub(crate) fn root() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the crate lies in the repository")
}
