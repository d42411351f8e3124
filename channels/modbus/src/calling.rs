//! Units that call in: who is it?
//!
//! Nothing in Modbus says who calls, so an operator says how it is found out (`callers`). Until that is known a caller leads nowhere,
//! and one that stays unknown is turned away. A unit that calls while an older call of its own is still open is back
//! from somewhere: the older one is hung up.
//!
//! Each caller is asked in a task of its own, so that none can keep the others waiting.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bulkhead_sdk::{Connection, Context, Listener, Priority, Stream};

use crate::address::Table;
use crate::driver::Plant;
use crate::failure::Failure;
use crate::line::{Line, Way};
use crate::pdu::Ask;
use crate::settings::Callers;

/// How long a caller may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(10);

/// Takes calls for as long as the host listens.
pub async fn listen(context: &Context, listener: &Listener, plant: &Rc<Plant>) {
    loop {
        match listener.accept().await {
            Ok(caller) => {
                let (context, plant) = (context.clone(), plant.clone());
                context
                    .clone()
                    .spawn(async move { receive(&context, &plant, caller).await });
            }
            Err(closed) => {
                context.error(format!("no unit can call in any more: {closed}"));
                return;
            }
        }
    }
}

/// Leads to the line that the caller belongs to, or hangs up.
async fn receive(context: &Context, plant: &Plant, caller: Connection) {
    let Ok(stream) = caller.stream() else {
        return;
    };
    let line = match plant.callers {
        Callers::Any => Some(0),
        Callers::Unit => asked(context, plant, &caller).await,
        Callers::Greeting => {
            let greeted = context.timeout(PATIENCE, greeted(plant, &stream));
            greeted.await.unwrap_or_default()
        }
    };
    match line.and_then(|line| plant.lines.get(line)) {
        Some(line) if stream.is_open() => {
            context.info(format!("{} called in", stream.peer()));
            line.take(caller);
        }
        Some(_) => {}
        None => {
            context.warn(format!(
                "{} called in and is none of the units; hung up",
                stream.peer()
            ));
            caller.close();
        }
    }
}

/// The line of the first unit that answers. Those that are not there yet are tried first.
async fn asked(context: &Context, plant: &Plant, caller: &Connection) -> Option<usize> {
    let way = Way::CalledIn(RefCell::new(Some(caller.clone())));
    let framing = plant.lines.first()?.framing();
    let line = Line::new(context.clone(), way, framing, Duration::ZERO);
    let mut units: Vec<usize> = (0..plant.site.units.len()).collect();
    let is_up = |unit: &usize| plant.lines[plant.site.units[*unit].line].is_up();
    units.sort_by_key(is_up);
    for index in units {
        let unit = &plant.site.units[index];
        let place = plant.site.tag_of(index);
        let ask = place.map_or(FIRST_REGISTER, |place| place.read());
        let mut exchange = line.exchange(Priority::Poll).await;
        match exchange.ask(unit.number, unit.timeout, ask).await {
            Ok(_) => return Some(unit.line),
            Err(Failure::Exception(exception)) if !exception.unit_is_away() => {
                return Some(unit.line);
            }
            Err(Failure::Exception(_) | Failure::Timeout(_) | Failure::Broadcast) => {}
            Err(_) => return None,
        }
    }
    None
}

/// Asked of a unit that has no tags; to refuse it is an answer.
const FIRST_REGISTER: Ask = Ask::Read {
    table: Table::Holding,
    start: 0,
    count: 1,
};

/// The line of the greeting that the caller sends.
async fn greeted(plant: &Plant, stream: &Stream) -> Option<usize> {
    let mut said = Vec::new();
    loop {
        let mut hopeful = plant
            .site
            .greetings
            .iter()
            .filter(|(greeting, _)| greeting.starts_with(&said));
        match hopeful.next() {
            Some((greeting, line)) if *greeting == said => return Some(*line),
            Some(_) => {}
            None => return None,
        }
        said.extend(stream.read_array::<1>().await.ok()?);
    }
}
