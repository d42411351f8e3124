//! `bulkhead channel command`: gives a command, shows how far it has come, takes it back with Ctrl-C.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::signal::unix::{SignalKind, signal};

use super::arguments::{GiveCommand, NamedChannel};
use super::client::{Client, encoded};
use super::failure::Failure;
use super::output::{Cell, Output, plain, say, short_time};
use super::watch::{End, Flow, follow};
use crate::http::wire;

/// The largest payload, in bytes: what fits into a request of the API.
const MAX_PAYLOAD: u64 = 768 * 1024;

/// Lists the commands that a channel takes, and those under way.
pub(super) fn list(arguments: &NamedChannel) -> Result<(), Failure> {
    let path = format!("/channels/{}/commands", encoded(&arguments.channel));
    let commands: wire::Commands = Client::new(&arguments.api)?.get(&path)?;
    let mut out = Output::new();
    if arguments.api.json {
        out.json(&commands)?;
        return Ok(());
    }
    if commands.offered.is_empty() {
        out.line("its driver lists no commands")?;
    } else {
        let rows: Vec<Vec<Cell>> = commands
            .offered
            .into_iter()
            .map(|offered| vec![offered.name.into(), offered.help.into()])
            .collect();
        out.table(&["COMMAND", "WHAT IT DOES"], &rows)?;
    }
    for command in commands.under_way {
        let progress = command
            .progress
            .map_or_else(String::new, |progress| format!(", {}", shown(&progress)));
        out.line(&format!(
            "under way: {} (request {}) since {}{progress}",
            plain(&command.command),
            command.request,
            short_time(&command.since)
        ))?;
    }
    Ok(())
}

pub(super) fn give(arguments: &GiveCommand) -> Result<(), Failure> {
    let client = Arc::new(Client::new(&arguments.api)?);
    let request = request(arguments)?;
    let channel = encoded(&arguments.channel);
    let path = format!(
        "/channels/{channel}/commands/{}",
        encoded(&arguments.command)
    );
    let cancel = Cancel::on_interrupt(client.clone(), format!("/channels/{channel}/commands"));
    let stream = client.post_for_stream(&path, &request)?;
    let mut ended = None;
    let followed = follow(stream, &mut String::new(), &mut |name, data| {
        match name {
            "accepted" => {
                if let Ok(accepted) = serde_json::from_str::<wire::CommandAccepted>(data) {
                    cancel.arm(accepted.request);
                }
            }
            "progress" => report(arguments.api.json, data),
            "done" | "failed" => {
                ended = Some((name == "done", data.to_owned()));
                return Ok(Flow::Enough);
            }
            _ => {}
        }
        Ok(Flow::On)
    });
    match (followed, ended) {
        (Ok(()), Some((true, data))) => done(arguments.api.json, &data),
        (Ok(()), Some((false, data))) => {
            Err(match serde_json::from_str::<wire::ErrorAnswer>(&data) {
                Ok(answer) => Failure::Refused(Box::new(answer.error)),
                Err(_) => lost("its last word was none"),
            })
        }
        (Ok(()), None) => Err(lost("it ended without a word")),
        (Err(End::Lost(why)), _) => Err(lost(&why)),
        (Err(End::Failed(failure)), _) => Err(failure),
    }
}

fn lost(why: &str) -> Failure {
    Failure::host(format!(
        "the host went away before the command was answered ({why}), and the device may or may not have acted on it; see \
         whether the host still runs, and look before you ask again"
    ))
}

fn request(arguments: &GiveCommand) -> Result<wire::CommandRequest, Failure> {
    let mut request = wire::CommandRequest {
        timeout_ms: Some(u64::try_from(arguments.timeout.as_millis()).unwrap_or(u64::MAX)),
        ..wire::CommandRequest::default()
    };
    if let Some(text) = &arguments.payload {
        let json = serde_json::from_str(text).map_err(|error| {
            Failure::usage(format!(
                "the payload is no JSON: {error}; write such as '{{\"slot\":2}}' or '\"text\"', or give bytes with --payload-file"
            ))
        })?;
        request.payload = Some(json);
    } else if let Some(path) = &arguments.payload_file {
        request.payload_base64 = Some(BASE64.encode(file(path)?));
    }
    Ok(request)
}

fn file(path: &Path) -> Result<Vec<u8>, Failure> {
    let unread = |error: std::io::Error| {
        Failure::fault(format!(
            "{} cannot be read: {error}; see to the file",
            path.display()
        ))
    };
    let reader: Box<dyn std::io::Read> = if path == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(std::fs::File::open(path).map_err(unread)?)
    };
    let mut bytes = Vec::new();
    reader
        .take(MAX_PAYLOAD + 1)
        .read_to_end(&mut bytes)
        .map_err(unread)?;
    if bytes.len() as u64 > MAX_PAYLOAD {
        return Err(Failure::fault(format!(
            "{} has more than {MAX_PAYLOAD} bytes, which is the most that a command takes; send it in pieces",
            path.display()
        )));
    }
    Ok(bytes)
}

/// Progress goes to standard error: standard output is for the answer alone.
fn report(json: bool, data: &str) {
    if json {
        say(data);
    } else if let Ok(progress) = serde_json::from_str::<wire::CommandProgress>(data) {
        say(&shown(&progress));
    }
}

fn shown(progress: &wire::CommandProgress) -> String {
    format!(
        "{:3.0} % {}",
        progress.fraction * 100.0,
        plain(&progress.message)
    )
}

fn done(json: bool, data: &str) -> Result<(), Failure> {
    let mut out = Output::new();
    if json {
        out.line(data)?;
        return Ok(());
    }
    let Ok(done) = serde_json::from_str::<wire::CommandDone>(data) else {
        return Err(lost("its answer was none"));
    };
    let text = match (&done.payload, &done.payload_base64) {
        (Some(json), _) => serde_json::to_string_pretty(json).map_err(std::io::Error::other)?,
        (None, Some(base64)) => match BASE64.decode(base64).map(String::from_utf8) {
            Ok(Ok(text)) => text.lines().map(plain).collect::<Vec<_>>().join("\n"),
            Ok(Err(_)) | Err(_) => format!("base64:{base64}"),
        },
        (None, None) => format!("{} done", plain(&done.command)),
    };
    out.line(&text)?;
    Ok(())
}

/// Takes a command back when the terminal says so.
struct Cancel {
    request: Arc<AtomicU64>,
}

impl Cancel {
    /// The first Ctrl-C takes the command back, and the stream says what became of it; the second ends the program.
    fn on_interrupt(client: Arc<Client>, path: String) -> Self {
        let request = Arc::new(AtomicU64::new(0));
        let wanted = request.clone();
        let thread = std::thread::Builder::new().name("interrupt".into());
        let spawned = thread.spawn(move || {
            if let Err(error) = interrupts(&client, &path, &wanted) {
                tracing::debug!(%error, "Ctrl-C ends this at once");
            }
        });
        if let Err(error) = spawned {
            tracing::debug!(%error, "Ctrl-C ends this at once");
        }
        Self { request }
    }

    /// The command is under way.
    fn arm(&self, request: u64) {
        self.request.store(request, Ordering::Release);
    }
}

/// Waits for Ctrl-C, for as long as the program runs.
fn interrupts(client: &Client, path: &str, request: &AtomicU64) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut interrupts = signal(SignalKind::interrupt())?;
        let mut asked = false;
        while interrupts.recv().await.is_some() {
            let request = request.load(Ordering::Acquire);
            if asked || request == 0 {
                // As a shell expects of whoever ends by this signal. The host notices that the connection is gone.
                std::process::exit(130);
            }
            asked = true;
            say("taking it back; Ctrl-C again to leave at once");
            if let Err(failure) =
                client.delete::<wire::CommandCancelled>(&format!("{path}/{request}"))
            {
                // It has ended meanwhile, or the host has: the stream says which.
                tracing::debug!(?failure, "a cancel was refused");
            }
        }
        Ok(())
    })
}
