//! Devices that stand in for a plant: real sockets, known values, faults on request.
//!
//! They serve whoever has no hardware: the quickstart, the tests and the bench. They are servers of their own
//! and know nothing of channels, drivers or the host, so that what a driver reads from them is proof.

pub mod modbus;

/// `bulkhead simulate ...`
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// A Modbus device, TCP or RTU over TCP, with moving values, many units and faults on request.
    Modbus(modbus::Args),
}

/// Runs a simulated device until SIGINT or SIGTERM.
///
/// # Errors
///
/// As [`modbus::run`].
pub async fn run(command: Command) -> Result<(), modbus::Error> {
    match command {
        Command::Modbus(args) => modbus::run(args).await,
    }
}
