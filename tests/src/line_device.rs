//! A sensor that speaks one line at a time (see `channels/line`), written from the protocol, not from a driver.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result};

/// The sensor. Dropping it ends it.
#[derive(Debug)]
pub struct LineDevice {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    values: BTreeMap<String, String>,
    /// What it says in place of the next answers, as it stands.
    spoilt: Vec<String>,
    questions: Vec<String>,
    connections: u32,
    ended: bool,
}

impl LineDevice {
    /// Listens on a free port of loopback, with these values.
    ///
    /// # Errors
    ///
    /// Where there is none.
    pub fn start(values: &[(&str, &str)]) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no free port on loopback")?;
        let address = listener.local_addr()?;
        let values = values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let shared = Arc::new(Mutex::new(State {
            values: values.collect(),
            ..State::default()
        }));
        let device = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if lock(&device).ended {
                    break;
                }
                lock(&device).connections += 1;
                let device = Arc::clone(&device);
                // Ends with its connection.
                thread::spawn(move || serve(stream, &device));
            }
        });
        Ok(Self { address, shared })
    }

    /// What is there to be read from now on.
    pub fn set(&self, name: &str, value: &str) {
        let mut state = lock(&self.shared);
        state.values.insert(name.to_owned(), value.to_owned());
    }

    /// What a value is, such as one that was set.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<String> {
        lock(&self.shared).values.get(name).cloned()
    }

    /// In place of the next answers it says this, as it stands; an empty text is silence.
    pub fn spoil(&self, answers: &[&str]) {
        let answers = answers.iter().rev().map(|answer| (*answer).to_owned());
        lock(&self.shared).spoilt = answers.collect();
    }

    /// The lines that it was asked so far.
    #[must_use]
    pub fn questions(&self) -> Vec<String> {
        lock(&self.shared).questions.clone()
    }

    /// Connections so far.
    #[must_use]
    pub fn connections(&self) -> u32 {
        lock(&self.shared).connections
    }
}

impl Drop for LineDevice {
    fn drop(&mut self) {
        lock(&self.shared).ended = true;
        // Wakes the listener; where that fails it has ended.
        TcpStream::connect(self.address).ok();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(stream: TcpStream, state: &Mutex<State>) {
    let Ok(mut answers) = stream.try_clone() else {
        return;
    };
    for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        let said = {
            let mut state = lock(state);
            let spoilt = state.spoilt.pop();
            spoilt.unwrap_or_else(|| answer(&mut state, &line))
        };
        if answers.write_all(said.as_bytes()).is_err() {
            return;
        }
    }
}

fn answer(state: &mut State, line: &str) -> String {
    let question = line.trim_end_matches('\r').to_owned();
    let said = match question.split(' ').collect::<Vec<_>>().as_slice() {
        _ if !line.ends_with('\r') => "ERR 1 a line ends in CR LF".to_owned(),
        ["READ", name] => match state.values.get(*name) {
            Some(value) => format!("OK {value}"),
            None => "ERR 2 no such name".to_owned(),
        },
        ["SET", name, value] if state.values.contains_key(*name) => {
            state.values.insert((*name).to_owned(), (*value).to_owned());
            "OK".to_owned()
        }
        _ => "ERR 1 not understood".to_owned(),
    };
    state.questions.push(question);
    format!("{said}\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_answers_each_line_by_one() -> Result<()> {
        let device = LineDevice::start(&[("temp", "21.5")])?;
        let mut stream = TcpStream::connect(device.address)?;
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let mut ask = |question: &str| -> Result<String> {
            stream.write_all(question.as_bytes())?;
            lines.next().context("an answer")?.map_err(Into::into)
        };
        assert_eq!(ask("READ temp\r\n")?, "OK 21.5");
        assert_eq!(ask("SET temp 22\r\n")?, "OK");
        assert_eq!(ask("READ nobody\r\n")?, "ERR 2 no such name");
        device.spoil(&["noise\r\n"]);
        assert_eq!(ask("READ temp\r\n")?, "noise");
        assert_eq!(ask("READ temp\r\n")?, "OK 22");
        assert_eq!(device.value("temp").as_deref(), Some("22"));
        assert_eq!(device.questions().len(), 4);
        assert_eq!(device.connections(), 1);
        Ok(())
    }
}
