//! Network namespaces: a test whose network is its own, and machines at the other end of a wire.
//!
//! ```text
//!   the test, the host         |  a `Remote` each: devices
//!   lo  wire0 10.77.0.1/24 ----+---- 10.77.0.2/24 wire lo
//!       wire1 10.77.1.1/24 ----+---- 10.77.1.2/24 wire lo
//! ```
//!
//! [`apart`] runs a test again in a process of its own, in a network of its own; what the test starts is there too, so the
//! host's HTTP API can be asked on loopback. The namespaces have no names: they are gone with the last process in them, be it
//! after a panic or a SIGKILL, and no two tests can meet. `/etc/resolv.conf` can be replaced there, see [`Network::name_server`].
//!
//! It takes root, or a kernel that gives users namespaces of their own.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{Ended, Running};
use crate::{PATIENCE, paths};

/// Says to a test that its network is its own.
const APART: &str = "BULKHEAD_TEST_APART";

/// Runs a test in a network of its own. To be called by the test itself, with a closure written in it: the test is found by
/// the closure's name.
///
/// # Errors
///
/// Those of the test, and where there can be no namespace.
pub fn apart<F: FnOnce(&Network) -> Result<()>>(test: F) -> Result<()> {
    if is_apart() {
        return test(&Network::enter()?);
    }
    let closure = std::any::type_name_of_val(&test);
    let name = test_of(closure).with_context(|| format!("`{closure}` stands in no test"))?;
    let mut again = unshared();
    again
        .arg(std::env::current_exe()?)
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(APART, "1");
    let ended = Running::start(&mut again)?.wait_at_most(10 * PATIENCE)?;
    let printed = [ended.out.join("\n"), ended.err.join("\n")].concat();
    if ended.code() == Some(0) {
        // Otherwise a test that was renamed would pass by not being found.
        ensure!(
            printed.contains("1 passed"),
            "{name} is no test of this binary:\n{printed}"
        );
        println!("{printed}");
        return Ok(());
    }
    privileged()?;
    bail!(
        "{name}, in a network of its own, ended with {}:\n{printed}",
        ended.status
    )
}

/// The same for a program that is no test: runs it again, with its output and these arguments.
///
/// # Errors
///
/// Where there can be no namespace, or the program fails there.
pub fn again_apart(arguments: &[&str]) -> Result<()> {
    privileged()?;
    let mut again = unshared();
    again
        .arg(std::env::current_exe()?)
        .args(arguments)
        .env(APART, "1");
    let status = again.status()?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}

/// A command without any network, to be followed by the program.
///
/// # Errors
///
/// Where there can be no namespace.
pub fn unplugged() -> Result<Command> {
    privileged()?;
    Ok(unshared())
}

/// Whether this process runs in a network of its own.
#[must_use]
pub fn is_apart() -> bool {
    std::env::var_os(APART).is_some()
}

/// `crate::module::test::{{closure}}` without the crate and the closure.
fn test_of(closure: &str) -> Option<&str> {
    let (path, _) = closure.split_once("::{{closure}}")?;
    Some(path.split_once("::")?.1)
}

/// A command in new namespaces: `unshare ..`, to be followed by the program.
fn unshared() -> Command {
    let mut unshare = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    // Where Debian keeps `ip` and `nft`; on the path of root only.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    if let Ok(path) = std::env::join_paths(folders) {
        unshare.env("PATH", path);
    }
    unshare.args(["--net", "--mount", "--"]);
    unshare
}

/// Whether there can be namespaces at all.
fn privileged() -> Result<()> {
    let tried = unshared().arg("true").stderr(Stdio::piped()).output();
    let tried = tried.context("cannot run `unshare`; install util-linux")?;
    ensure!(
        tried.status.success(),
        "a network namespace cannot be made here: {}; run the tests as root, in a container with the capability \
         CAP_SYS_ADMIN (`docker run --privileged`), or allow user namespaces (`sysctl kernel.unprivileged_userns_clone=1`)",
        String::from_utf8_lossy(&tried.stderr).trim()
    );
    Ok(())
}

/// The network of a test that is [`apart`].
#[derive(Debug)]
pub struct Network(());

/// A machine at the other end of a wire: another network namespace. Dropping it pulls the wire.
#[derive(Debug)]
pub struct Remote {
    // It does nothing but be there; it ends with its input, so also where the test is killed.
    holder: Running,
    /// The number of the wire.
    pub number: u8,
    /// What the wire is called at our end.
    pub wire: String,
    /// Our address on the wire.
    pub near: String,
    /// The machine's.
    pub far: String,
}

/// A place where programs run and packets pass.
pub trait Place {
    /// A program there.
    fn command(&self, program: &str) -> Command;

    /// Runs a program there, such as `ip`, to its end. Gives what it printed.
    ///
    /// # Errors
    ///
    /// Where it is missing or fails; with what it said.
    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = self.command(program).args(arguments).output();
        let output = output
            .with_context(|| format!("cannot run {program}; `cargo xtask test` installs it"))?;
        ensure!(
            output.status.success(),
            "`{program} {}`: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Place for Network {
    fn command(&self, program: &str) -> Command {
        Command::new(program)
    }
}

impl Place for Remote {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let holder = self.holder.id().to_string();
        command.args(["--target", &holder, "--net", "--", program]);
        command
    }
}

impl Network {
    /// The one in which this process runs already.
    ///
    /// # Errors
    ///
    /// Where it does not run [`apart`]: the machine's own network is nobody's to change.
    pub fn enter() -> Result<Self> {
        ensure!(is_apart(), "this is the machine's own network");
        let network = Self(());
        network.run("ip", &["link", "set", "lo", "up"])?;
        Ok(network)
    }

    /// A machine on a wire of its own, the number of which (0 to 255) makes its addresses: `10.77.NUMBER.2` there, and
    /// `10.77.NUMBER.1` here.
    ///
    /// # Errors
    ///
    /// Where it cannot be made.
    pub fn machine(&self, number: u8) -> Result<Remote> {
        let mut unshare = Command::new("unshare");
        let holder =
            Running::start(unshare.args(["--net", "--", "sh", "-c", "echo ready; exec cat"]))?;
        let ready = |line: &str| (line == "ready").then_some(());
        holder.out().wait_for(0, ready)?;
        let machine = Remote {
            holder,
            number,
            wire: format!("wire{number}"),
            near: format!("10.77.{number}.1"),
            far: format!("10.77.{number}.2"),
        };
        let (wire, id) = (machine.wire.as_str(), machine.holder.id().to_string());
        let pair = ["link", "add", wire, "type", "veth", "peer", "name", "wire"];
        self.run("ip", &[&pair[..], &["netns", &id]].concat())?;
        machine.run("ip", &["link", "set", "lo", "up"])?;
        self.raise(wire, &machine.near)?;
        machine.raise("wire", &machine.far)?;
        Ok(machine)
    }

    /// Makes this the name server of all that is started from now on, in place of the machine's.
    ///
    /// # Errors
    ///
    /// Where `/etc/resolv.conf` cannot be covered.
    pub fn name_server(&self, address: &str) -> Result<()> {
        let text = format!("nameserver {address}\noptions timeout:1 attempts:1\n");
        let folder = paths::target().join("test-folders");
        std::fs::create_dir_all(&folder)?;
        let file = folder.join(format!("resolv-{}.conf", std::process::id()));
        std::fs::write(&file, text)?;
        let path = file.display().to_string();
        let bound = self.run("mount", &["--bind", &path, "/etc/resolv.conf"]);
        // What is mounted stays without its name.
        std::fs::remove_file(&file)?;
        bound.map(drop)
    }
}

/// What is done alike at both ends.
trait Raise: Place {
    /// Gives an interface its address and puts it up. It speaks IPv4 only, so that nothing leaves by itself.
    fn raise(&self, interface: &str, address: &str) -> Result<()> {
        let with_length = format!("{address}/24");
        self.run("ip", &["link", "set", interface, "addrgenmode", "none"])?;
        self.run("ip", &["address", "add", &with_length, "dev", interface])?;
        self.run("ip", &["link", "set", interface, "up"]).map(drop)
    }
}

impl<P: Place> Raise for P {}

impl Remote {
    /// Takes our address off the wire, as when somebody gives the host another one.
    ///
    /// # Errors
    ///
    /// Where it is not there.
    pub fn remove_address(&self, network: &Network) -> Result<()> {
        let with_length = format!("{}/24", self.near);
        let arguments = ["address", "del", &with_length, "dev", &self.wire];
        network.run("ip", &arguments).map(drop)
    }

    /// Gives it back.
    ///
    /// # Errors
    ///
    /// Where it is there already.
    pub fn restore_address(&self, network: &Network) -> Result<()> {
        let with_length = format!("{}/24", self.near);
        let arguments = ["address", "add", &with_length, "dev", &self.wire];
        network.run("ip", &arguments).map(drop)
    }

    /// Starts a program there.
    ///
    /// # Errors
    ///
    /// Where it cannot be started.
    pub fn start(&self, program: &str, arguments: &[&str]) -> Result<Running> {
        Running::start(self.command(program).args(arguments))
    }

    /// The end of its holder, and with it of the namespace once its programs have ended.
    ///
    /// # Errors
    ///
    /// Where that fails.
    pub fn end(self) -> Result<Ended> {
        self.holder.terminate()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{ErrorKind, Read, Write};
    use std::net::{Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::firewall::{Dial, Firewall};

    #[test]
    fn tests_are_found_by_their_closures() {
        let closure = "links::outages::a_test::{{closure}}";
        assert_eq!(test_of(closure), Some("outages::a_test"));
        assert_eq!(test_of("links::a_function"), None);
    }

    /// Listens in the machine, says hello to each caller, and ends with the machine.
    fn greeter(machine: &Remote) -> Result<Running> {
        let listen = "TCP-LISTEN:502,reuseaddr,fork";
        let greeter = machine.start("socat", &["-dd", listen, "SYSTEM:echo hello; cat"])?;
        let listening = |line: &str| line.contains("listening on").then_some(());
        greeter.err().wait_for(0, listening)?;
        Ok(greeter)
    }

    fn greeted(stream: &mut TcpStream) -> Result<()> {
        let mut hello = [0; 6];
        stream.read_exact(&mut hello)?;
        assert_eq!(&hello, b"hello\n");
        Ok(())
    }

    #[test]
    fn a_network_is_alone_and_reaches_its_machines() -> Result<()> {
        apart(|network| {
            assert_eq!(network.run("ip", &["-o", "link"])?.lines().count(), 1);
            let (one, other) = (network.machine(0)?, network.machine(1)?);
            assert_eq!(network.run("ip", &["-o", "link"])?.lines().count(), 3);
            for machine in [&one, &other] {
                let _greeter = greeter(machine)?;
                greeted(&mut TcpStream::connect((machine.far.as_str(), 502))?)?;
            }
            one.remove_address(network)?;
            assert!(TcpStream::connect((one.far.as_str(), 502)).is_err());
            one.restore_address(network)?;
            let refused = TcpStream::connect((one.far.as_str(), 502)).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            drop(one);
            assert_eq!(other.run("ip", &["-o", "link"])?.lines().count(), 2);
            Ok(())
        })
    }

    #[test]
    fn packets_are_dropped_without_a_word_and_dials_are_counted() -> Result<()> {
        apart(|network| {
            let machine = network.machine(0)?;
            let _greeter = greeter(&machine)?;
            let to = SocketAddr::new(machine.far.parse()?, 502);
            network.count_dials()?;
            let mut stream = TcpStream::connect(to)?;
            greeted(&mut stream)?;
            UdpSocket::bind("0.0.0.0:0")?.send_to(b"?", (Ipv4Addr::LOCALHOST, 53))?;
            let udp = Dial {
                protocol: "udp".to_owned(),
                ..Dial::tcp("127.0.0.1", 53)
            };
            let dialled = BTreeMap::from([(Dial::tcp(&machine.far, 502), 1), (udp, 1)]);
            assert_eq!(network.dials()?, dialled);

            machine.black_hole()?;
            let silence = Duration::from_millis(200);
            let error = TcpStream::connect_timeout(&to, silence).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            stream.write_all(b"lost")?;
            stream.set_read_timeout(Some(silence))?;
            let error = stream.read(&mut [0; 4]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            assert!(machine.heal()? >= 2, "a SYN and a segment");

            // What was sent in vain is sent again by TCP.
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut echoed = [0; 4];
            stream.read_exact(&mut echoed)?;
            assert_eq!(&echoed, b"lost");
            machine.lose(30)?;
            for _ in 0..20 {
                stream.write_all(b"some")?;
                stream.read_exact(&mut echoed)?;
                assert_eq!(&echoed, b"some");
            }
            assert!(machine.heal()? > 0, "none of 80 packets was lost");
            Ok(())
        })
    }

    #[test]
    fn a_name_server_of_its_own() -> Result<()> {
        apart(|network| {
            let server = UdpSocket::bind("127.0.0.9:53")?;
            server.set_read_timeout(Some(PATIENCE))?;
            network.name_server("127.0.0.9")?;
            let asked = thread::spawn(|| ("plc.example", 502).to_socket_addrs().is_ok());
            let (length, _) = server.recv_from(&mut [0; 512])?;
            assert!(length > 12);
            drop(server);
            assert!(!asked.join().unwrap(), "nobody has answered");
            Ok(())
        })
    }

    #[test]
    fn a_failure_apart_is_a_failure() {
        let failed = apart(|_| {
            panic!("as it should");
        });
        if !is_apart() {
            assert!(failed.unwrap_err().to_string().contains("as it should"));
        }
    }
}
