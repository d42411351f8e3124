//! Standard output.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;

use super::Look;
use super::destination::{Destination, Undelivered};
use super::record::{json_batch, json_gap};
use crate::event::Item;

pub(super) struct StdoutDestination {
    look: Look,
    sink: String,
    /// Opened with the first write, without a buffer in between, so that after a failure it is known what was written.
    open: Option<File>,
    /// What is left of what was given last, where not all of it could be written.
    left: Vec<u8>,
}

impl StdoutDestination {
    pub(super) fn new(look: Look, sink: &str) -> Self {
        Self {
            look,
            sink: sink.to_owned(),
            open: None,
            left: Vec::new(),
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let file = match &mut self.open {
            Some(file) => file,
            open => {
                let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
                open.insert(file)
            }
        };
        let mut written = 0;
        let end = loop {
            let Some(rest) = self.left.get(written..).filter(|rest| !rest.is_empty()) else {
                break Ok(());
            };
            match file.write(rest) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(some) => written += some,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.left.drain(..written);
        end
    }
}

impl Destination for StdoutDestination {
    async fn deliver(&mut self, items: &[Item]) -> Result<(), Undelivered> {
        // The same items again: their rest is at hand.
        if self.left.is_empty() {
            for item in items {
                match (item, self.look) {
                    (Item::Batch(batch), Look::Json) => json_batch(&mut self.left, batch),
                    (Item::Gap(gap), Look::Json) => json_gap(&mut self.left, gap, &self.sink),
                    (Item::Batch(batch), Look::Text(style)) => {
                        for sample in &batch.samples {
                            style.sample(&mut self.left, batch, sample);
                        }
                    }
                    (Item::Gap(gap), Look::Text(style)) => style.gap(&mut self.left, gap),
                }
            }
        }
        self.write().map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Undelivered::Closed,
            _ => Undelivered::Later(format!("standard output cannot be written: {error}")),
        })
    }

    async fn close(&mut self) -> Result<(), Undelivered> {
        Ok(())
    }
}
