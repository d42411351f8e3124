//! Somebody who reads and writes a tag all the time, and keeps account: what was asked, and what was answered.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::PATIENCE;

/// Between two questions, so that who asks is not what keeps the machine busy.
const PAUSE: Duration = Duration::from_millis(20);

/// A write and a read in turn, until it is stopped. Never two at once: what people ask for goes before polls, and two of them could
/// keep a slow line to themselves.
#[derive(Debug)]
pub struct Traffic {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    over: AtomicBool,
    account: Mutex<Account>,
}

/// What was asked, and what was answered.
#[derive(Debug, Clone, Default)]
pub struct Account {
    /// Reads and writes that were asked for.
    pub asked: u64,
    /// Answers by their code; `good` where it was done.
    pub answers: BTreeMap<String, u64>,
    /// Those that were not answered within [`PATIENCE`], and why.
    pub unanswered: Vec<String>,
    /// Writes that were asked for: the last value, each greater by one than that before.
    pub written: u64,
    /// The last write that was answered by `good`.
    pub acknowledged: u64,
    /// Writes and reads that were answered by `good`.
    pub done: (u64, u64),
}

impl Traffic {
    /// Reads one tag and writes another (`channel/tag`) through the API at this address: 1, 2, 3 and so on. Each waits for its
    /// answer for so long.
    #[must_use]
    pub fn start(url: &str, read: &str, write: &str, timeout: Duration) -> Self {
        let shared = Arc::<Shared>::default();
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let reader = format!("{url}/api/v1/tags/{read}/read");
        let writer = format!("{url}/api/v1/tags/{write}/write");
        let shares = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            while shares.goes_on() {
                let number = shares.account().written + 1;
                shares.account().written = number;
                let body = json!({ "value": number, "timeout_ms": timeout_ms });
                let answer = ask(&writer, &body);
                let mut account = shares.account();
                if account.book(answer) {
                    account.acknowledged = number;
                    account.done.0 += 1;
                }
                drop(account);
                let answer = ask(&reader, &json!({ "timeout_ms": timeout_ms }));
                let mut account = shares.account();
                account.done.1 += u64::from(account.book(answer));
            }
        });
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// The account so far.
    #[must_use]
    pub fn so_far(&self) -> Account {
        self.shared.account().clone()
    }

    /// Waits until so many more reads and writes have been done, each.
    ///
    /// # Errors
    ///
    /// Where that takes longer than [`PATIENCE`].
    pub fn wait_for_more(&self, more: u64) -> Result<()> {
        const STEP: Duration = Duration::from_millis(10);
        let (writes, reads) = self.so_far().done;
        for _ in 0..PATIENCE.as_millis() / STEP.as_millis() {
            let (now_writes, now_reads) = self.so_far().done;
            if now_writes >= writes + more && now_reads >= reads + more {
                return Ok(());
            }
            thread::sleep(STEP);
        }
        bail!("nothing is read and written any more: {:?}", self.so_far())
    }

    /// No more questions; waits for the last answers.
    ///
    /// # Errors
    ///
    /// Where it has panicked.
    pub fn stop(mut self) -> Result<Account> {
        self.shared.over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok().context("the traffic has an accident")?;
        }
        Ok(self.so_far())
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.shared.over.store(true, Relaxed);
    }
}

impl Shared {
    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn goes_on(&self) -> bool {
        thread::sleep(PAUSE);
        !self.over.load(Relaxed)
    }
}

impl Account {
    /// Whether it was done.
    fn book(&mut self, answer: Result<String>) -> bool {
        self.asked += 1;
        match answer {
            Ok(code) => {
                let good = code == "good";
                *self.answers.entry(code).or_default() += 1;
                good
            }
            Err(error) => {
                self.unanswered.push(format!("{error:#}"));
                false
            }
        }
    }

    /// How many were answered.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answers.values().sum()
    }
}

/// `good`, the quality that was read instead, or the code of the refusal.
fn ask(url: &str, body: &Value) -> Result<String> {
    let agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE))
        .build()
        .new_agent();
    let mut response = agent.post(url).send_json(body).context("no answer")?;
    let status = response.status();
    let text = response.body_mut().read_to_string().context("no body")?;
    let body: Value = serde_json::from_str(&text).with_context(|| format!("no JSON: {text}"))?;
    let said = if status == 200 {
        body["quality"].as_str().unwrap_or("good")
    } else {
        let code = body["error"]["code"].as_str();
        code.with_context(|| format!("a refusal without a code: {body}"))?
    };
    Ok(said.to_owned())
}
