//! Samples in a real database (PostgreSQL), read there by its own client: each one once, whatever is killed.
//!
//! The driver counts, so that what is missing shows: the value grows by one from sample to sample.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bulkhead_tests::{Authority, Bulkhead, Folder, PATIENCE, Running, free_port, rounds};

/// A counter each 20 ms, and a value that is held.
const CHANNEL: &str = "[[channel]]\nid = \"a\"\ndriver = \"$DRIVERS/signal.wasm\"\n\
    [[channel.group]]\nname = \"fast\"\nperiod = \"20ms\"\ntags = [\n\
    { name = \"count\", address = \"counter\", type = \"uint64\" },\n\
    { name = \"held\", address = \"hold(20)\", type = \"uint8\", report = \"change\" }]\n";

/// The password of the role `bulkhead`.
const PASSWORD: &str = "hush";
const STEP: Duration = Duration::from_millis(100);

/// A database in a folder of its own. Ends with its value.
struct Database {
    // Ends first: the folder is removed when nobody writes to it any more.
    running: Option<Running>,
    folder: Own,
    programs: PathBuf,
    port: u16,
    settings: Vec<String>,
}

/// A folder that the server owns. It refuses to run for root, and whoever runs it instead must reach the folder.
struct Own {
    path: PathBuf,
    /// Who runs the server, where root runs the tests.
    user: Option<(u32, u32)>,
}

impl Own {
    fn new() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        let name = format!("bulkhead-postgres-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // Left over from a process that had the same id and was killed.
        fs::remove_dir_all(&path).ok();
        fs::create_dir(&path)?;
        let own = Self {
            path,
            user: match rustix::process::geteuid().is_root() {
                true => Some((id("-u")?, id("-g")?)),
                false => None,
            },
        };
        own.give(&own.path)?;
        Ok(own)
    }

    /// Hands a file to whoever runs the server.
    fn give(&self, path: &Path) -> Result<()> {
        if let Some((user, group)) = self.user {
            chown(path, Some(user), Some(group))?;
        }
        Ok(())
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.path).env("LC_ALL", "C");
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.path).ok();
    }
}

/// A number of the user whom Debian made for it.
fn id(which: &str) -> Result<u32> {
    let ended = Running::start(Command::new("id").args([which, "postgres"]))?.wait()?;
    let number = ended.out.first().and_then(|line| line.parse().ok());
    number.context("there is no user `postgres`; apt-get install --yes postgresql")
}

/// Where Debian has its programs, by version.
fn programs() -> Result<PathBuf> {
    const MISSING: &str = "apt-get install --yes postgresql";
    let mut found = Vec::new();
    for version in fs::read_dir("/usr/lib/postgresql").context(MISSING)? {
        let path = version?.path().join("bin");
        if path.join("postgres").is_file() {
            found.push(path);
        }
    }
    found.into_iter().max().context(MISSING)
}

impl Database {
    fn start() -> Result<Self> {
        Self::start_with(|_| Ok(Vec::new()))
    }

    /// With settings such as `ssl=on`, made once there is a folder.
    fn start_with(settings: impl Fn(&Own) -> Result<Vec<String>>) -> Result<Self> {
        let (folder, programs) = (Own::new()?, programs()?);
        let password = folder.path.join("password");
        fs::write(&password, PASSWORD)?;
        folder.give(&password)?;
        let mut command = folder.command(&programs.join("initdb"));
        command.args([
            "-N",
            "-E",
            "UTF8",
            "-U",
            "bulkhead",
            "-A",
            "scram-sha-256",
            "--pwfile",
        ]);
        command
            .arg(&password)
            .arg("-D")
            .arg(folder.path.join("data"));
        let made = Running::start(&mut command)?.wait()?;
        ensure!(made.code() == Some(0), "{made:#?}");
        let mut database = Self {
            running: None,
            settings: settings(&folder)?,
            folder,
            programs,
            port: free_port(),
        };
        database.start_again()?;
        Ok(database)
    }

    /// Starts it where it was.
    fn start_again(&mut self) -> Result<()> {
        // What a killed one has started ends by itself, and the next cannot begin before.
        for _ in 0..PATIENCE.as_millis() / STEP.as_millis() {
            let mut command = self.folder.command(&self.programs.join("postgres"));
            command.arg("-D").arg(self.folder.path.join("data"));
            let port = format!("port={}", self.port);
            let fixed = [
                "listen_addresses=127.0.0.1",
                "unix_socket_directories=",
                &port,
            ];
            let settings = self.settings.iter().map(String::as_str);
            for setting in fixed.into_iter().chain(settings) {
                command.args(["-c", setting]);
            }
            let running = Running::start(&mut command)?;
            let ready = running.err().wait_for(0, |line| {
                line.contains("ready to accept connections").then_some(())
            });
            if ready.is_ok() {
                self.running = Some(running);
                return Ok(());
            }
            let printed = running.printed();
            ensure!(
                printed.contains("pre-existing shared memory") || printed.contains("lock file"),
                "{printed}"
            );
            std::thread::sleep(STEP);
        }
        bail!("the database does not come back")
    }

    /// Kills it without a word.
    fn kill(&mut self) -> Result<()> {
        self.running.take().context("it runs")?.kill()
    }

    /// What it answers, a line for each row and `|` between columns.
    fn ask(&self, sql: &str) -> Result<Vec<String>> {
        let mut command = Command::new(self.programs.join("psql"));
        command
            .env("PGPASSWORD", PASSWORD)
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        command.args([
            "-U",
            "bulkhead",
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            sql,
            "postgres",
        ]);
        let ended = Running::start(&mut command)?.wait()?;
        ensure!(ended.code() == Some(0), "{sql}: {ended:#?}");
        Ok(ended.out)
    }

    /// Asks again and again until it answers this. There is nothing to wait on.
    fn ask_until(&self, sql: &str, wanted: &str) -> Result<()> {
        let mut last = Vec::new();
        for _ in 0..PATIENCE.as_millis() / STEP.as_millis() {
            // The sink makes the table when it has something for it.
            match self.ask(sql) {
                Ok(answer) if answer == [wanted] => return Ok(()),
                Ok(answer) => last = answer,
                Err(error) if error.to_string().contains("does not exist") => {}
                Err(error) => return Err(error),
            }
            std::thread::sleep(STEP);
        }
        bail!("{sql}: {last:?}")
    }

    /// The sink that leads here.
    fn sink(&self, keys: &str) -> String {
        let password = self.folder.path.join("password");
        format!(
            "{CHANNEL}[[sink]]\nkind = \"postgres\"\nname = \"out\"\n\
             url = \"postgres://bulkhead@127.0.0.1:{}/postgres\"\npassword = \"file:{}\"\n{keys}\n",
            self.port,
            password.display()
        )
    }

    /// Waits until what the host has counted by now stands in the table.
    fn wait_for_now(&self, host: &Bulkhead, table: &str) -> Result<()> {
        let count = host.get_until("/api/v1/tags/a/count", |tag| tag["value"].as_u64())?;
        self.ask_until(
            &format!(
                "SELECT count(*) > 0 FROM {table} WHERE tag = 'count' AND value >= {count} \
                 AND epoch = (SELECT max(epoch) FROM {table})"
            ),
            "t",
        )
    }

    /// Within each epoch no number is missing, each stands there once, and the counter goes up with them (by one, but where polls are skipped).
    fn check(&self, table: &str) -> Result<()> {
        let wrong = self.ask(&format!(
            "SELECT epoch, count(*), min(sequence), max(sequence) FROM {table} GROUP BY epoch \
             HAVING min(sequence) <> 1 OR max(sequence) <> count(*)"
        ))?;
        ensure!(wrong.is_empty(), "numbers are missing: {wrong:?}");
        let wrong = self.ask(&format!(
            "SELECT * FROM (SELECT epoch, sequence, value, lag(value) OVER (PARTITION BY epoch ORDER BY sequence) AS before \
             FROM {table} WHERE tag = 'count' AND quality = 'good') AS counts WHERE value <= before"
        ))?;
        ensure!(wrong.is_empty(), "values go back: {wrong:?}");
        Ok(())
    }
}

/// What the host says is wrong with its sink.
fn trouble(host: &Bulkhead, part: &str) -> Result<()> {
    host.get_until("/api/v1/status", |status| {
        status["sinks"][0]["trouble"]
            .as_str()?
            .contains(part)
            .then_some(())
    })
}

fn no_trouble(host: &Bulkhead) -> Result<()> {
    host.get_until("/api/v1/status", |status| {
        status["sinks"][0]["trouble"].is_null().then_some(())
    })
}

#[test]
fn every_sample_stands_there_once_whatever_is_killed() -> Result<()> {
    let mut database = Database::start()?;
    let config = database.sink("table = \"plant.samples\"");
    let mut host = Bulkhead::start(&config)?;
    let rounds = rounds(5, 50);
    for round in 0..rounds {
        database.wait_for_now(&host, "plant.samples")?;
        database.kill()?;
        trouble(&host, "the database")?;
        if round % 2 == 0 {
            // What it holds while the database is away stands in its outbox.
            host = Bulkhead::start_in(host.kill()?, &config, &[])?;
        }
        database.start_again()?;
        no_trouble(&host)?;
        // In the midst of a delivery, as it may be.
        host = Bulkhead::start_in(host.kill()?, &config, &[])?;
    }
    database.wait_for_now(&host, "plant.samples")?;
    host.stop_gently()?;
    database.check("plant.samples")?;
    let epochs = database.ask("SELECT count(DISTINCT epoch) FROM plant.samples")?;
    let epochs: u64 = epochs.concat().parse()?;
    assert!(epochs > rounds, "{epochs}");
    assert_eq!(
        database.ask("SELECT count(*) FROM plant.samples_gaps")?,
        ["0"]
    );
    Ok(())
}

#[test]
fn rows_say_what_samples_are() -> Result<()> {
    let database = Database::start()?;
    let host = Bulkhead::start(&database.sink(""))?;
    database.wait_for_now(&host, "samples")?;
    let rows = database.ask(
        "SELECT channel, sequence, device, grp, quality, value, value_exact IS NULL, source_time_ns IS NULL, \
         abs(extract(epoch FROM server_time) * 1000000000 - server_time_ns) < 1000, \
         abs(extract(epoch FROM now() - server_time)) < 600 \
         FROM samples WHERE tag = 'count' ORDER BY epoch, sequence LIMIT 1",
    )?;
    assert_eq!(rows, ["a|1|a|fast|good|1|t|t|t|t"]);
    let keys = database
        .ask("SELECT indexdef FROM pg_indexes WHERE tablename = 'samples' ORDER BY indexname")?;
    assert!(
        keys.iter()
            .any(|key| key.contains("UNIQUE") && key.contains("(channel, epoch, sequence)"))
            && keys
                .iter()
                .any(|key| key.contains("(channel, tag, server_time)")),
        "{keys:?}"
    );
    Ok(())
}

#[test]
fn a_wrong_password_is_named_and_a_right_one_holds_from_then_on() -> Result<()> {
    let database = Database::start()?;
    let own = Folder::new()?;
    let secret = own.write("secret", "wrong\n")?;
    let config = database.sink("");
    let right = database.folder.path.join("password");
    let config = config.replace(&right.display().to_string(), &secret.display().to_string());
    let host = Bulkhead::start(&config)?;
    trouble(&host, "`password`")?;
    own.write("secret", format!("{PASSWORD}\n"))?;
    no_trouble(&host)?;
    database.wait_for_now(&host, "samples")?;
    database.check("samples")
}

#[test]
fn samples_go_by_tls_to_the_right_database_only() -> Result<()> {
    let own = Folder::new()?;
    let authority = Authority::new(own.path(), "plant-ca")?;
    let right = authority.sign("database", "DNS:db.plant.example", 1)?;
    let database = Database::start_with(|folder| {
        let mut settings = vec!["ssl=on".to_owned()];
        for (setting, file) in [("ssl_cert_file", &right.cert), ("ssl_key_file", &right.key)] {
            let copy = folder.path.join(setting);
            fs::copy(file, &copy)?;
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o600))?;
            folder.give(&copy)?;
            settings.push(format!("{setting}={}", copy.display()));
        }
        Ok(settings)
    })?;
    let tls = |ca: &Path, name: &str| {
        database.sink(&format!(
            "tls = true\nca = \"{}\"\nserver_name = \"{name}\"",
            ca.display()
        ))
    };
    let host = Bulkhead::start(&tls(&authority.ca(), "db.plant.example"))?;
    database.wait_for_now(&host, "samples")?;
    let encrypted = database.ask(
        "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'bulkhead'",
    )?;
    assert_eq!(encrypted, ["t"]);
    host.stop_gently()?;

    let host = Bulkhead::start(&tls(&authority.ca(), "other.plant.example"))?;
    trouble(&host, "`server_name`")?;
    host.stop_gently()?;
    let other = Folder::new()?;
    let stranger = Authority::new(other.path(), "other-ca")?;
    let host = Bulkhead::start(&tls(&stranger.ca(), "db.plant.example"))?;
    trouble(&host, "`ca`")?;
    host.stop_gently()?;
    Ok(())
}

#[test]
fn what_the_database_refuses_is_left_out_and_said() -> Result<()> {
    let database = Database::start()?;
    let host = Bulkhead::start(&database.sink(""))?;
    database.wait_for_now(&host, "samples")?;
    host.stop_gently()?;
    // Somebody thought that no counter gets so far. Ten values: a machine that stands still costs polls, and the counter counts those too.
    database.ask(
        "ALTER TABLE samples ADD CHECK (tag <> 'count' OR value NOT BETWEEN 25 AND 34) NOT VALID",
    )?;
    let host = Bulkhead::start(&database.sink(""))?;
    host.get_until("/api/v1/status", |status| {
        (status["sinks"][0]["written_samples"].as_u64()? > 60).then_some(())
    })?;
    database.ask_until(
        "SELECT DISTINCT reason, samples >= 1 FROM samples_gaps",
        "refused|t",
    )?;
    // All others are there: no other number is missing.
    database.ask_until(
        "SELECT max(sequence) - count(*) BETWEEN 1 AND 10, \
         max(sequence) - count(*) = (SELECT sum(samples) FROM samples_gaps) \
         FROM samples WHERE epoch = (SELECT max(epoch) FROM samples)",
        "t|t",
    )
}

#[test]
fn a_table_without_a_key_takes_nothing_and_a_missing_one_is_asked_for() -> Result<()> {
    let database = Database::start()?;
    let host = Bulkhead::start(&database.sink("create = false"))?;
    trouble(&host, "`create = true`")?;
    host.stop_gently()?;
    let host = Bulkhead::start(&database.sink(""))?;
    database.wait_for_now(&host, "samples")?;
    host.stop_gently()?;
    // As somebody made it who knew the columns and nothing else.
    database.ask("CREATE TABLE copied (LIKE samples)")?;
    let host = Bulkhead::start(&database.sink("table = \"copied\""))?;
    trouble(&host, "unique key")?;
    assert_eq!(database.ask("SELECT count(*) FROM copied")?, ["0"]);
    database.ask("CREATE UNIQUE INDEX ON copied (channel, epoch, sequence)")?;
    database.wait_for_now(&host, "copied")?;
    database.check("copied")
}

#[test]
fn a_table_that_somebody_holds_is_waited_for() -> Result<()> {
    let database = Database::start()?;
    let host = Bulkhead::start(&database.sink(""))?;
    database.wait_for_now(&host, "samples")?;
    let mut holder = Command::new(database.programs.join("psql"));
    holder
        .env("PGPASSWORD", PASSWORD)
        .args(["-h", "127.0.0.1", "-p", &database.port.to_string()]);
    holder.args(["-U", "bulkhead", "-XAtq", "postgres"]);
    let mut holder = Running::start(&mut holder)?;
    holder.tell("BEGIN; LOCK TABLE samples; SELECT 'held';")?;
    holder
        .out()
        .wait_for(0, |line| (line == "held").then_some(()))?;
    // The server ends the statement, not we the connection.
    trouble(&host, "holds a lock")?;
    drop(holder);
    no_trouble(&host)?;
    database.wait_for_now(&host, "samples")?;
    database.check("samples")
}
