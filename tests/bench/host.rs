//! Hosts for the bench: from TOML, as an operator would write it, in a folder that goes away afterwards.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bulkhead::config::{self, Origin};
use bulkhead::lifecycle::State;
use bulkhead::supervisor::{ChannelHandle, Host};

/// A host and its folder.
pub(crate) struct BenchHost {
    pub(crate) host: Host,
    folder: PathBuf,
}

impl BenchHost {
    /// Starts a host, and waits until all its channels run.
    pub(crate) async fn start(channels: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder =
            std::env::temp_dir().join(format!("bulkhead-bench-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let text = format!("[host]\ndata_dir = \"data\"\n[http]\nlisten = \"off\"\n{channels}");
        let origin = Origin {
            name: "bench.toml".into(),
            folder: folder.clone(),
        };
        let config = config::parse(&text, &origin).map_err(|faults| anyhow::anyhow!("{faults}"))?;
        let host = Host::start(config, |_| {}).await?;
        for channel in host.channels() {
            running(channel, 0).await?;
        }
        Ok(Self { host, folder })
    }

    /// The only channel.
    pub(crate) fn channel(&self) -> Result<&ChannelHandle> {
        Ok(self
            .host
            .channels()
            .first()
            .context("the bench's host has a channel")?)
    }

    /// Stops it and removes its folder.
    pub(crate) async fn stop(self) -> Result<()> {
        self.host.stop(Duration::from_secs(10)).await;
        std::fs::remove_dir_all(&self.folder)?;
        Ok(())
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
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the crate lies in the repository")?;
    let path = root
        .join("target/drivers")
        .join(name)
        .with_extension("wasm");
    if !path.is_file() {
        bail!("{} is missing; run `cargo xtask drivers`", path.display());
    }
    Ok(path)
}
