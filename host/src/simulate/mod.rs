//! Devices that stand in for a plant: real sockets, known values, faults on request.
//!
//! They serve whoever has no hardware: the quickstart, the tests and the bench. They are servers of their own
//! and know nothing of channels, drivers or the host, so that what a driver reads from them is proof.

pub mod line;
pub mod modbus;

/// `bulkhead simulate ...`
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// A Modbus device, TCP or RTU over TCP, with moving values, many units and faults on request.
    Modbus(modbus::Args),
    /// A sensor that speaks one line at a time, for a first driver to talk to
    Line(line::Args),
}

/// Runs a simulated device until SIGINT or SIGTERM.
///
/// # Errors
///
/// As [`modbus::run`].
pub async fn run(command: Command) -> Result<(), modbus::Error> {
    match command {
        Command::Modbus(args) => modbus::run(args).await,
        Command::Line(args) => line::run(args).await,
    }
}
