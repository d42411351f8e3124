//! Commands: what they set up is there for the next, what they report, and how they are taken back.

use std::cell::Cell;
use std::time::Duration;

use bulkhead_sdk::abi::Action;
use bulkhead_sdk::testing::{Answer, FakeHost, Setup};
use bulkhead_sdk::*;
use schemars::JsonSchema;
use serde::Deserialize;

/// A crane that carries loads, one after the other.
struct Crane {
    context: Context,
    carried: Cell<u32>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Load {
    #[serde(default = "one")]
    tons: u32,
}

fn one() -> u32 {
    1
}

impl Driver for Crane {
    type Settings = NoSettings;
    type DeviceSettings = NoSettings;
    type TagSettings = NoSettings;

    fn info() -> Info {
        Info {
            name: "crane",
            version: "0.1.0",
            protocol: "none",
            address_help: "",
            links: &[],
            can: Capabilities::COMMANDS,
        }
    }

    fn commands() -> Vec<CommandInfo> {
        vec![
            CommandInfo::new("carry", "Carries a load.").takes::<Load>(),
            CommandInfo::new("swing", "Swings.").only_looks(),
        ]
    }

    fn configure(_config: Config<Self>, context: Context) -> Result<Self, Faults> {
        Ok(Self {
            context,
            carried: Cell::new(0),
        })
    }

    async fn poll(&self, _poll: Poll) -> Result<PollReport, Error> {
        Ok(PollReport::default())
    }

    async fn command(&self, command: Command) -> Result<Vec<u8>, Error> {
        let second = Duration::from_secs(1);
        if command.name == "swing" {
            self.context.sleep(second).await;
            return Ok(Vec::new());
        }
        let load: Load = command.json()?;
        // A load that hangs on the hook is set down before anything else.
        self.context.commit();
        for ton in 0..load.tons {
            if self.context.is_cancelled() {
                return Err(Error::new(format!("set down after {ton} tons")));
            }
            self.carried.set(self.carried.get() + 1);
            self.context
                .progress(ton as f32 / load.tons as f32, "carrying");
            self.context.sleep(second).await;
        }
        Ok(self.carried.get().to_string().into())
    }
}

fn host() -> FakeHost<Crane> {
    FakeHost::start(Setup::new()).expect("no faults")
}

#[test]
fn the_driver_lists_what_it_takes() {
    let listed = Runtime::<Crane>::describe().commands;
    let told: Vec<_> = listed
        .iter()
        .map(|command| (&*command.name, &*command.help, command.changes))
        .collect();
    // What says nothing of it is taken for one that changes something.
    assert_eq!(
        told,
        [
            ("carry", "Carries a load.", true),
            ("swing", "Swings.", false)
        ]
    );
    assert!(listed[0].payload_schema.contains("\"tons\""));
    assert_eq!(
        (&*listed[0].answer_schema, &*listed[1].payload_schema),
        ("", "")
    );
}

#[test]
fn a_payload_is_json_and_may_be_left_out() {
    let mut host = host();
    assert_eq!(host.command("carry", b""), Ok(b"1".to_vec()));
    assert_eq!(
        host.command("carry", b"{\"tons\":2}"),
        Ok(b"3".to_vec()),
        "the first is remembered"
    );
    let error = host.command("carry", b"{\"tonnes\":2}").unwrap_err();
    assert!(
        error.message.contains("`carry`") && error.message.contains("tonnes"),
        "{}",
        error.message
    );
    host.stop();
}

#[test]
fn what_is_committed_hears_of_a_cancel_and_answers_itself() {
    let mut host = host();
    let request = host.begin_command("carry", b"{\"tons\":5}");
    host.advance(Duration::from_millis(1_500));
    host.cancel(request);
    assert_eq!(host.answer(request), None, "the load still hangs");
    let error = host.finish_command(request).unwrap_err();
    assert_eq!(error.message, "set down after 2 tons");
    let reports = host
        .history()
        .iter()
        .filter(|action| matches!(action, Action::CommandProgress(_)));
    assert_eq!(reports.count(), 2);
    // The next is not taken for cancelled.
    assert_eq!(host.command("carry", b""), Ok(b"3".to_vec()));
    host.stop();
}

#[test]
fn what_is_not_committed_is_dropped_and_answered() {
    let mut host = host();
    let request = host.begin_command("swing", b"");
    host.cancel(request);
    let Some(Answer::Command(Err(error))) = host.answer(request) else {
        panic!("it is answered at once");
    };
    assert_eq!(error.message, "cancelled: nobody waits any more");
    host.stop();
}
