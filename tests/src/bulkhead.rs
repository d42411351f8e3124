//! The host as its user meets it: a TOML file, a process, an HTTP API.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::folder::Folder;
use crate::process::{Ended, Running};
use crate::{PATIENCE, paths};

/// Runs `bulkhead` with such arguments, to its end, in the root of the repository.
///
/// # Errors
///
/// Where it is not built or does not end.
pub fn run(arguments: &[&str]) -> Result<Ended> {
    Running::start(
        Command::new(paths::bulkhead()?)
            .current_dir(paths::root())
            .args(arguments),
    )?
    .wait()
}

/// A running host with a folder of its own. Dropping it kills the process and removes the folder.
#[derive(Debug)]
pub struct Bulkhead {
    // Dropped first: the folder is removed only when nobody writes to it any more.
    running: Running,
    agent: ureq::Agent,
    /// `http://127.0.0.1:PORT`
    pub url: String,
    folder: Folder,
}

impl Bulkhead {
    /// Starts `bulkhead run` with the user's TOML and waits until its API listens.
    ///
    /// The text is completed as [`Folder::write_config`] says; the folder is the host's current directory too.
    ///
    /// # Errors
    ///
    /// Where it does not start; with what it printed.
    pub fn start(toml: &str) -> Result<Self> {
        Self::start_with(toml, &[])
    }

    /// The same with further arguments, such as `["--for", "2s"]`.
    ///
    /// # Errors
    ///
    /// Where it does not start; with what it printed.
    pub fn start_with(toml: &str, arguments: &[&str]) -> Result<Self> {
        let folder = Folder::new()?;
        Self::start_in(folder, toml, arguments)
    }

    /// The same in a folder that has been prepared.
    ///
    /// # Errors
    ///
    /// Where it does not start; with what it printed.
    pub fn start_in(folder: Folder, toml: &str, arguments: &[&str]) -> Result<Self> {
        folder.write_config(toml)?;
        let running = folder.start(&[&["run", Folder::CONFIG][..], arguments].concat())?;
        let url = running.err().wait_for(0, |line| {
            Some(line.strip_prefix("ready: ")?.trim().to_owned())
        });
        let url = url.with_context(|| {
            format!(
                "`bulkhead run` is not ready; it printed:\n{}",
                running.printed()
            )
        })?;
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .new_agent();
        Ok(Self {
            running,
            agent,
            url,
            folder,
        })
    }

    /// Ends it with SIGTERM and starts it again in the same folder, with the same or another configuration.
    ///
    /// # Errors
    ///
    /// Where it does not end, ends badly, or does not start again.
    pub fn start_again(self, toml: &str) -> Result<Self> {
        Self::start_in(self.stop_gently()?, toml, &[])
    }

    /// Kills it with SIGKILL. Gives its folder, as it left it.
    ///
    /// # Errors
    ///
    /// Where that fails.
    pub fn kill(self) -> Result<Folder> {
        let Self {
            running, folder, ..
        } = self;
        running.kill()?;
        Ok(folder)
    }

    /// Ends it with SIGTERM. Gives its folder, as it left it.
    ///
    /// # Errors
    ///
    /// Where it does not end, or ends badly.
    pub fn stop_gently(self) -> Result<Folder> {
        let Self {
            running, folder, ..
        } = self;
        let ended = running.terminate()?;
        ensure!(
            ended.code() == Some(0),
            "it ended with {}:\n{}",
            ended.status,
            ended.err.join("\n")
        );
        Ok(folder)
    }

    /// Its process: output so far, process id.
    #[must_use]
    pub fn process(&self) -> &Running {
        &self.running
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs `bulkhead` as a client of this host, such as `["tag", "list"]`, to its end.
    ///
    /// # Errors
    ///
    /// Where it does not end. A refusal is an end.
    pub fn client(&self, arguments: &[&str]) -> Result<Ended> {
        self.start_client(arguments)?.wait()
    }

    /// Starts `bulkhead` as a client of this host, such as `["tag", "watch"]`.
    ///
    /// # Errors
    ///
    /// Where it does not start.
    pub fn start_client(&self, arguments: &[&str]) -> Result<Running> {
        let mut client = Command::new(paths::bulkhead()?);
        Running::start(client.env("BULKHEAD_URL", &self.url).args(arguments))
    }

    /// Replaces its configuration file, for a reload.
    ///
    /// # Errors
    ///
    /// Where the file cannot be written.
    pub fn rewrite_config(&self, toml: &str) -> Result<()> {
        self.folder.write_config(toml).map(drop)
    }

    /// `GET path`
    ///
    /// # Errors
    ///
    /// Where there is no answer. A refusal is an answer.
    pub fn get(&self, path: &str) -> Result<Reply> {
        reply(path, self.agent.get(self.at(path)).call())
    }

    /// `POST path` with a JSON body.
    ///
    /// # Errors
    ///
    /// Where there is no answer. A refusal is an answer.
    pub fn post(&self, path: &str, body: &Value) -> Result<Reply> {
        reply(path, self.agent.post(self.at(path)).send_json(body))
    }

    /// `PUT path` with a JSON body.
    ///
    /// # Errors
    ///
    /// Where there is no answer. A refusal is an answer.
    pub fn put(&self, path: &str, body: &Value) -> Result<Reply> {
        reply(path, self.agent.put(self.at(path)).send_json(body))
    }

    /// `DELETE path`
    ///
    /// # Errors
    ///
    /// Where there is no answer. A refusal is an answer.
    pub fn delete(&self, path: &str) -> Result<Reply> {
        let request = self.agent.delete(self.at(path));
        reply(
            path,
            request.header("content-type", "application/json").call(),
        )
    }

    /// `POST path` with a JSON body, answered by a stream of server-sent events.
    ///
    /// # Errors
    ///
    /// Where the host refuses it.
    pub fn post_for_stream(&self, path: &str, body: &Value) -> Result<Stream> {
        let request = self.agent.post(self.at(path));
        let response = request
            .header("accept", "text/event-stream")
            .send_json(body)
            .with_context(|| format!("POST {path}"))?;
        ensure!(
            response.status() == 200,
            "POST {path}: {}",
            response.status()
        );
        Ok(Stream::new(response.into_body().into_reader()))
    }

    /// Asks again and again until `wanted` makes something of the answer. For what has no stream to wait on.
    ///
    /// # Errors
    ///
    /// Where there is no answer, or none such within [`PATIENCE`]; with the last one.
    pub fn get_until<T>(
        &self,
        path: &str,
        mut wanted: impl FnMut(&Value) -> Option<T>,
    ) -> Result<T> {
        const STEP: std::time::Duration = std::time::Duration::from_millis(10);
        let mut last = Value::Null;
        for _ in 0..PATIENCE.as_millis() / STEP.as_millis() {
            last = self.get(path)?.body;
            if let Some(found) = wanted(&last) {
                return Ok(found);
            }
            std::thread::sleep(STEP);
        }
        anyhow::bail!(
            "{path} never answered as expected; at last: {last:#}\n{}",
            self.running.printed()
        )
    }

    /// Opens a stream of server-sent events.
    ///
    /// # Errors
    ///
    /// Where the host refuses it.
    pub fn stream(&self, path: &str) -> Result<Stream> {
        self.stream_for(path, PATIENCE)
    }

    /// The same, for as long as this.
    ///
    /// # Errors
    ///
    /// Where the host refuses it.
    pub fn stream_for(&self, path: &str, at_most: Duration) -> Result<Stream> {
        self.stream_after(path, "", at_most)
    }

    /// Comes back to a stream of server-sent events, of which the event with this id was seen last.
    ///
    /// # Errors
    ///
    /// Where the host refuses it.
    pub fn resume(&self, path: &str, last_id: &str) -> Result<Stream> {
        self.stream_after(path, last_id, PATIENCE)
    }

    fn stream_after(&self, path: &str, last_id: &str, at_most: Duration) -> Result<Stream> {
        let response = self
            .agent
            .get(self.at(path))
            .header("last-event-id", last_id)
            .config()
            .timeout_global(Some(at_most))
            .build()
            .call()
            .with_context(|| format!("GET {path}"))?;
        ensure!(
            response.status() == 200,
            "GET {path}: {}",
            response.status()
        );
        Ok(Stream::new(response.into_body().into_reader()))
    }

    /// Ends it with SIGTERM.
    ///
    /// # Errors
    ///
    /// Where it does not end.
    pub fn stop(self) -> Result<Ended> {
        self.running.terminate()
    }

    /// Waits until it ends by itself, as with `--for`.
    ///
    /// # Errors
    ///
    /// Where it does not end.
    pub fn wait(self) -> Result<Ended> {
        self.running.wait()
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }
}

/// What the API answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body; a string where it is not JSON, null where it is empty.
    pub body: Value,
}

fn reply(
    path: &str,
    response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<Reply> {
    let mut response = response.with_context(|| format!("no answer from {path}"))?;
    let text = response
        .body_mut()
        .read_to_string()
        .with_context(|| format!("no body from {path}"))?;
    let body = match text.as_str() {
        "" => Value::Null,
        text => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
    };
    Ok(Reply {
        status: response.status().as_u16(),
        body,
    })
}

/// Server-sent events, one after the other: the event's name (`message` where it has none) and its data.
///
/// Ends where the host ends the stream, and with an error once its time ([`PATIENCE`], if nothing else was said) is over.
pub struct Stream {
    reader: BufReader<Box<dyn Read + Send>>,
    last_id: String,
}

impl Stream {
    fn new(body: impl Read + Send + 'static) -> Self {
        Self {
            reader: BufReader::new(Box::new(body)),
            last_id: String::new(),
        }
    }

    /// The id that was sent last, at the latest with the last event; empty where there was none.
    #[must_use]
    pub fn last_id(&self) -> &str {
        &self.last_id
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stream")
    }
}

impl Iterator for Stream {
    type Item = Result<(String, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        let (mut name, mut data) = ("message".to_owned(), String::new());
        loop {
            let mut line = String::new();
            match self.reader.read_line(&mut line) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => return Some(Err(error).context("the stream broke")),
            }
            let line = line.trim_end_matches(['\n', '\r']);
            match line.split_once(':') {
                _ if line.is_empty() && data.is_empty() => "message".clone_into(&mut name),
                _ if line.is_empty() => {
                    let value = serde_json::from_str(&data).unwrap_or(Value::String(data));
                    return Some(Ok((name, value)));
                }
                Some(("id", rest)) => rest.trim_start().clone_into(&mut self.last_id),
                Some(("event", rest)) => name = rest.trim_start().to_owned(),
                Some(("data", rest)) => {
                    if !data.is_empty() {
                        data.push('\n');
                    }
                    data.push_str(rest.strip_prefix(' ').unwrap_or(rest));
                }
                // Comments and retry times.
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_read_event_by_event() {
        let text =
            ": hello\n\nevent: sample\ndata: {\"v\":1}\nid: 7\n\ndata: a\ndata:b\n\ndata: cut";
        let mut stream = Stream::new(text.as_bytes());
        let events: Vec<(String, Value)> = stream.by_ref().map(Result::unwrap).collect();
        assert_eq!(stream.last_id(), "7");
        let expected = [
            ("sample", serde_json::json!({"v": 1})),
            ("message", Value::from("a\nb")),
        ];
        assert_eq!(
            events,
            expected.map(|(name, value)| (name.to_owned(), value))
        );
    }
}
