//! What the kernel says of this process: processor time, memory, open files. Read from `/proc` when somebody asks.
//!
//! What is not there, or is not understood, is left out: a metric that is missing is noticed, one that is wrong is not.

use std::fs;
use std::time::Duration;

use super::snapshot::ProcessNow;

/// Ticks of a second in `/proc/self/stat` (`USER_HZ`, the same on every architecture that the host runs on: proc(5)).
const TICKS: u64 = 100;

/// Reads it. Blocks for as long as the kernel takes, which counts the open files.
pub(super) fn now() -> Option<ProcessNow> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let files = fs::read_dir("/proc/self/fd").ok()?.count();
    // One of them is the folder that is being read.
    read(&stat, &status, files.saturating_sub(1) as u64)
}

fn read(stat: &str, status: &str, open_files: u64) -> Option<ProcessNow> {
    // The name of the program stands in parentheses, and may hold anything. Behind it stands field 3.
    let (_, fields) = stat.rsplit_once(')')?;
    let field = |number: usize| {
        fields
            .split_ascii_whitespace()
            .nth(number - 3)?
            .parse::<u64>()
            .ok()
    };
    let ticks = field(14)?.checked_add(field(15)?)?;
    let kibibytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        let number = line.trim().strip_suffix("kB")?.trim();
        number.parse::<u64>().ok()?.checked_mul(1_024)
    };
    Some(ProcessNow {
        processor: Duration::from_millis(ticks.checked_mul(1_000 / TICKS)?),
        resident_bytes: kibibytes("VmRSS:")?,
        virtual_bytes: kibibytes("VmSize:")?,
        open_files,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tx\nVmPeak:\t  9 kB\nVmSize:\t  2048 kB\nVmRSS:\t     512 kB\n";

    #[test]
    fn fields_are_counted_from_behind_the_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 31 0 0 20 0 1 0 5 1 2 3";
        let process = read(stat, STATUS, 4).unwrap();
        let wanted = ProcessNow {
            processor: Duration::from_millis(2_810),
            resident_bytes: 512 * 1_024,
            virtual_bytes: 2_048 * 1_024,
            open_files: 4,
        };
        assert_eq!(process, wanted);
    }

    #[test]
    fn what_is_not_understood_is_left_out() {
        let stat = "7 (a) S 1 7 7 0 -1 4194560 100 0 0 0 250 31 0";
        for (stat, status) in [
            ("", STATUS),
            ("7 (a) S 1", STATUS),
            ("7 (a", STATUS),
            (stat, ""),
            (stat, "VmSize:\t1 kB\nVmRSS:\t18446744073709551615 kB\n"),
        ] {
            assert_eq!(read(stat, status, 0), None, "{stat} {status}");
        }
    }

    #[test]
    fn this_process_has_memory_and_files() {
        let process = now().expect("a kernel with /proc");
        assert!(process.resident_bytes > 100_000 && process.open_files >= 3);
        assert!(process.virtual_bytes >= process.resident_bytes);
    }
}
