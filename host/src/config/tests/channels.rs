//! Faults of syntax, at the top of the file, and in a channel's own keys.

use expect_test::expect;

use super::{CHANNEL, channel, check, good, parsed};

#[test]
fn syntax() {
    check(
        "",
        expect![
            "1:1: there is no channel, so nothing would run; add one that begins with `[[channel]]`"
        ],
    );
    check(
        "[[channel]\nid = 1",
        expect![
            "1:11: not valid TOML: unclosed array table, expected `]`; see toml.io for how it is written"
        ],
    );
    check(
        "a = 1\na = 2\nb = \nc = 'x",
        expect![[r#"
        2:1: this key stands twice in its table; remove one
        3:5: not valid TOML: string values must be quoted, expected literal string; see toml.io for how it is written
        4:7: not valid TOML: invalid literal string, expected `'`; see toml.io for how it is written"#]],
    );
    check(
        &format!("a = {}1{}", "[".repeat(200), "]".repeat(200)),
        expect!["1:85: nested too deeply; use at most 80 levels"],
    );
    check(
        &format!("{}x = 1", "a.".repeat(200)),
        expect!["1:1: nested too deeply; use at most 80 levels"],
    );
    // Each key by itself is no deeper than it may be.
    let key = format!("{}x", "a.".repeat(60));
    check(
        &channel(&format!("settings = {{ {key} = {{ {key} = 1 }} }}")),
        expect!["4:176: channel a: nested too deeply; use at most 80 levels"],
    );
    check(
        "a = \u{1}",
        expect![
            "1:5: not valid TOML: string values must be quoted, expected literal string; see toml.io for how it is written"
        ],
    );
    check(
        &format!("{}\na = \nb = ", " ".repeat(1 << 20)),
        expect![
            "2:5: not valid TOML: string values must be quoted, expected literal string; see toml.io for how it is written"
        ],
    );
    check(
        &" ".repeat((16 << 20) + 1),
        expect!["1:1: the file is larger than 16MiB; split the plant over several hosts"],
    );
}

#[test]
fn the_top_of_the_file() {
    check(
        "chanel = 1",
        expect![[r#"
        1:1: there is no channel, so nothing would run; add one that begins with `[[channel]]`
        1:1: unknown key `chanel`; did you mean `channel`?"#]],
    );
    check(
        &format!("[[channels]]\n{CHANNEL}"),
        expect!["1:3: unknown key `channels`; did you mean `channel`?"],
    );
    check(
        "channel = []",
        expect![
            "1:1: there is no channel, so nothing would run; add one that begins with `[[channel]]`"
        ],
    );
    check(
        "[channel]\nid = \"a\"",
        expect![
            "1:1: `channel` is a table; write a list of tables: `[[channel]]` with two brackets, or `channel = [{ .. }]`"
        ],
    );
    check(
        "channel = [1]",
        expect!["1:12: `channel` is an integer; write tables in it: `channel = [{ .. }]`"],
    );
    check(
        &channel("[host]\ndata-dir = 1\ndata_dir = \"\""),
        expect![[r#"
            5:1: host: unknown key `data-dir`; did you mean `data_dir`?
            6:12: host: `data_dir` is no path; write one such as "data""#]],
    );
    check(
        &channel("[[host]]"),
        expect!["4:1: `host` is an array; write a table such as `host = { .. }`"],
    );
    check(
        &channel("[http]\nport = 1\nlisten = 7070"),
        expect![[r#"
        5:1: http: unknown key `port`; remove it, or use one of `listen`
        6:10: http: `listen` is an integer; write a string such as `listen = "127.0.0.1:7070"`"#]],
    );
    check(
        &channel("[http]\nlisten = \"localhost\""),
        expect![[
            r#"5:10: http: `localhost` is no address with a port; use one such as "127.0.0.1:7070", or "off""#
        ]],
    );
    check(
        &channel("[http]\nlisten = \"0.0.0.0:7070\""),
        expect![[
            r#"5:10: http: `0.0.0.0:7070` can be reached from other machines, and this version has neither TLS nor tokens; use a loopback address such as "127.0.0.1:7070" and a tunnel"#
        ]],
    );
    check(
        &channel("[http]\nlisten = \"[::1]:0\""),
        expect!["in order"],
    );
    check(
        &channel("[http]\ntls = true"),
        expect![
            "5:1: http: `tls` is not supported yet by this version; remove it and listen on a loopback address"
        ],
    );
}

#[test]
fn channels() {
    check(
        "[[channel]]",
        expect![[r#"
        1:1: channel number 1: `driver` is missing; add one such as `driver = "target/drivers/modbus.wasm"`
        1:1: channel number 1: `id` is missing; add one such as `id = "press-3"`"#]],
    );
    check(
        "[[channel]]\nid = \"a/b\"\ndriver = \"\"",
        expect![[r#"
        2:6: channel a/b: `a/b` is no id; use 1 to 64 letters, digits, `_`, `-` or `.`, beginning with a letter or digit
        3:10: channel a/b: `driver` is no path; write one such as "target/drivers/modbus.wasm""#]],
    );
    check(
        "[[channel]]\nid = 1\ndriver = 2\nenabled = \"yes\"",
        expect![[r#"
            2:6: channel number 1: `id` is an integer; write a string such as `id = "press-3"`
            3:10: channel number 1: `driver` is an integer; write a string such as `driver = "target/drivers/modbus.wasm"`
            4:11: channel number 1: `enabled` is a string; write `true` or `false`"#]],
    );
    check(
        &format!("{CHANNEL}{CHANNEL}"),
        expect![
            "5:6: channel a: channel `a` stands on line 2 already; give one of them another name"
        ],
    );
    check(
        &channel("sha256 = \"abc\"\nruntime = \"native\"\nlimit = {}"),
        expect![[r#"
            4:10: channel a: `abc` is no SHA-256; write the 64 hexadecimal digits that `sha256sum` prints
            5:1: channel a: `runtime` is not supported yet by this version; remove it: every driver runs as a WebAssembly component
            6:1: channel a: unknown key `limit`; did you mean `limits`?"#]],
    );
    check(
        &channel("settings = 1"),
        expect![
            "4:12: channel a: `settings` is an integer; write a table such as `settings = { .. }`"
        ],
    );
    check(
        &channel("settings.a = [inf]\nsettings.b = 99999999999999999999"),
        expect![[r#"
            4:15: channel a: a number in the settings is not finite, which JSON cannot carry; write it as a string
            5:14: channel a: a number in the settings is beyond 64 bits, which JSON cannot carry; write it as a string"#]],
    );
    for remote in [
        "oci://r.example/modbus:1",
        "r.example/modbus:1",
        "r.example/modbus",
        "modbus@sha256:00",
        "https://x/d.wasm",
    ] {
        let text = CHANNEL.replace("d.wasm", remote);
        let faults = parsed(&text).unwrap_err().to_string();
        assert!(
            faults.contains("leads to a registry or a server"),
            "{remote}: {faults}"
        );
    }
    check(
        &CHANNEL.replace("d.wasm", "oci://r.example/modbus:1"),
        expect![
            "3:10: channel a: `oci://r.example/modbus:1` leads to a registry or a server, which is not supported yet by this version; fetch the component and write the path of its file"
        ],
    );
    for local in [
        "d.wasm",
        "./d",
        "../x.y/d.wasm",
        "/opt/d",
        "drivers/d",
        "drivers.d/modbus.wasm",
    ] {
        good(&CHANNEL.replace("d.wasm", local));
    }
}

#[test]
fn limits() {
    check(
        &channel("limits = 1"),
        expect!["4:10: channel a: `limits` is an integer; write a table such as `limits = { .. }`"],
    );
    check(
        &channel("limits = { memory = 32, mailbx = 1, batch = 0, mailbox = 1.5 }"),
        expect![[r#"
            4:21: channel a, limits: `memory` is an integer; write a size with its unit such as "32MiB"
            4:25: channel a, limits: unknown key `mailbx`; did you mean `mailbox`?
            4:45: channel a, limits: `batch` is `0`; use 1 to 256
            4:58: channel a, limits: `mailbox` is a float; write a whole number such as 1024"#]],
    );
    check(
        &channel("limits = { memory = \"32MB\" }"),
        expect![[
            r#"4:21: channel a, limits: `memory` is `32MB`, which is no size; write one in B, KiB, MiB or GiB such as "32MiB""#
        ]],
    );
    check(
        &channel("limits = { memory = \"2GiB\" }"),
        expect!["4:21: channel a, limits: `memory` is `2GiB`; use 1MiB to 1GiB"],
    );
    check(
        &channel(
            "limits = { fuel_per_turn = 1, samples_per_second = -1, mailbox = 0xFFFF_FFFF_FFFF_FFFF_FFFF }",
        ),
        expect![[r#"
            4:28: channel a, limits: `fuel_per_turn` is `1`; use 10000 to 10000000000
            4:52: channel a, limits: `samples_per_second` is `-1`; use 1 to 100000000
            4:66: channel a, limits: `mailbox` is `0xFFFFFFFFFFFFFFFFFFFF`; use 16 to 65536"#]],
    );
    check(
        &channel("limits = { turn_deadline = 500 }"),
        expect![[
            r#"4:28: channel a, limits: `turn_deadline` is an integer; write a duration with its unit such as "500ms""#
        ]],
    );
    check(
        &channel("limits = { turn_deadline = \"0ms\" }"),
        expect!["4:28: channel a, limits: `turn_deadline` is `0ms`; use 1ms to 1m"],
    );
    check(
        &channel("limits = { turn_deadline = \"500\" }"),
        expect![[
            r#"4:28: channel a, limits: `turn_deadline` is `500`, which is no duration; write one with its unit such as "500ms""#
        ]],
    );
}

#[test]
fn restart() {
    check(
        &channel("restart = \"never\""),
        expect!["4:11: channel a: `restart` is a string; write a table such as `restart = { .. }`"],
    );
    check(
        &channel(
            "restart = { mode = \"always\", jitter = 2, factor = 0.5, retry_broken = \"1ms\" }",
        ),
        expect![[r#"
            4:20: channel a, restart: `mode` is `always`; use one of `permanent`, `transient` or `never`
            4:39: channel a, restart: `jitter` is `2`; use 0 to 1, the part of the delay that varies
            4:51: channel a, restart: `factor` is `0.5`; use 1 to 10, by which each delay is longer than the one before
            4:71: channel a, restart: `retry_broken` is `1ms`; use 100ms to 7days"#]],
    );
    check(
        &channel(
            "restart = { delay = \"10s\", max_delay = \"5s\", max_attempts = 1001, reset_after = \"0s\" }",
        ),
        expect![[r#"
            4:40: channel a, restart: `max_delay` is `5s`; use 10s to 1day
            4:61: channel a, restart: `max_attempts` is `1001`; use 0 to 1000
            4:81: channel a, restart: `reset_after` is `0s`; use 1s to 7days"#]],
    );
    check(
        &channel("restart = { jitter = nan }"),
        expect!["4:22: channel a, restart: `jitter` is not finite; use a number such as 0.3"],
    );
    check(
        &channel("restart = { jitter = true }"),
        expect!["4:22: channel a, restart: `jitter` is a boolean; write a number such as 0.3"],
    );
}

#[test]
fn health() {
    check(
        &channel("health = { interval = \"1ms\", timeout = 5, failures = 0, retries = 3 }"),
        expect![[r#"
            4:23: channel a, health: `interval` is `1ms`; use 100ms to 1day
            4:40: channel a, health: `timeout` is an integer; write a duration with its unit such as "5s"
            4:54: channel a, health: `failures` is `0`; use 1 to 1000
            4:57: channel a, health: unknown key `retries`; remove it, or use one of `interval`, `timeout` or `failures`"#]],
    );
}

#[test]
fn links() {
    check(
        &channel("links = 1"),
        expect!["4:9: channel a: `links` is an integer; write a table such as `links = { .. }`"],
    );
    check(
        &channel("links.plc = \"tcp://plc:502\""),
        expect!["4:13: channel a: `plc` is a string; write a table such as `{ .. }`"],
    );
    check(
        &channel("links.plc = {}"),
        expect![[
            r#"4:7: channel a, link plc: `connect` is missing; add one such as `connect = "tcp://10.0.0.9:502"`"#
        ]],
    );
    check(
        &channel(
            "links.\"p/c\" = { connect = \"plc:502\", profile = \"steady\", on_restart = \"drop\" }",
        ),
        expect![[r#"
            4:7: channel a, link p/c: `p/c` is no name for a link; use 1 to 64 letters, digits, `_`, `-` or `.`, beginning with a letter or digit
            4:27: channel a, link p/c: `plc:502` names no transport; write one such as "tcp://10.0.0.9:502"
            4:48: channel a, link p/c: `profile` is `steady`; use one of `plant`, `stable`, `unstable` or `low-bandwidth`
            4:71: channel a, link p/c: `on_restart` is `drop`; use one of `reset` or `keep`"#]],
    );
    for scheme in ["ws", "wss"] {
        let faults = parsed(&channel(&format!(
            "links.plc.connect = \"{scheme}://plc:502\""
        )))
        .unwrap_err();
        let wanted = "is a transport not supported yet by this version; use tcp://";
        assert!(faults.to_string().contains(wanted), "{faults}");
    }
    check(
        &channel("links.plc.connect = \"http://plc:502\""),
        expect![[
            r#"4:21: channel a, link plc: `http://plc:502` begins with an unknown transport; use tcp://, tls://, udp://, unix:// or serial://, as in "tcp://10.0.0.9:502""#
        ]],
    );
    check(
        &channel("links.plc.connect = \"tcp://plc\""),
        expect![[
            r#"4:21: channel a, link plc: `tcp://plc` has no port; add one as in "tcp://10.0.0.9:502""#
        ]],
    );
    check(
        &channel("links.plc.connect = \"tcp://plc:0\""),
        expect![
            "4:21: channel a, link plc: `tcp://plc:0` has no port from 1 to 65535; mend what stands after the last colon"
        ],
    );
    check(
        &channel("links.plc.connect = \"tcp://fd00::9:502\""),
        expect![[
            r#"4:21: channel a, link plc: `tcp://fd00::9:502` has no host before its port; write a name, an IPv4 address, or an IPv6 address in brackets as in "tcp://[fd00::9]:502""#
        ]],
    );
    check(
        &channel(
            "links.plc = { connect = \"tcp://plc:1\", base_delay = \"5s\", max_delay = \"1s\", connect_timeout = \"2h\" }",
        ),
        expect![[r#"
            4:71: channel a, link plc: `max_delay` is `1s`; use 5s to 1m
            4:95: channel a, link plc: `connect_timeout` is `2h`; use 10ms to 1m"#]],
    );
    check(
        &channel(
            r#"links.a = { connect = "tcp://plc:1", ca = "ca.pem", speed = 9600, from = ["10.0.0.0/8"] }
links.b = { connect = "tls://plc:1", cert = "c.pem", server_name = "p l c", start_tls = true }
links.c = { connect = "serial:///dev/ttyS0", speed = 1, parity = "mark", stop_bits = 3 }
links.d = { connect = "serial://ttyS0" }
links.e = { listen = "0.0.0.0:502", from = ["10.0.0.1/8", "plc", 3], max_connections = 100 }
links.f = { listen = "tcp://plc:502", connect = "tcp://plc:502" }
links.g = { listen = "tcp://plc:502" }
links.h = { listen = "tcp://[::]:502", from = ["10.0.0.1/8", "plc", 3], max_connections = 100 }
links.i = { listen = "tcp://[::]:502", from = [] }"#,
        ),
        expect![[r#"
            4:43: channel a, link a: `ca` belongs to TLS; write tls:// if this link is to have it, or `start_tls = true` if the driver begins it
            4:61: channel a, link a: `speed` belongs to serial lines; remove it
            4:74: channel a, link a: `from` belongs to links that listen; remove it
            5:45: channel a, link b: `cert` is there without its `key`; add the file of the private key
            5:68: channel a, link b: `p l c` is no name that a certificate could have; write it as it stands there
            5:89: channel a, link b: `start_tls` lets the driver begin TLS on a tcp:// link that it has opened; remove it here
            6:54: channel a, link c: `speed` is `1`; use 50 to 4000000
            6:66: channel a, link c: `parity` is `mark`; use one of `none`, `even` or `odd`
            6:86: channel a, link c: `stop_bits` is `3`; use 1 to 2
            7:23: channel a, link d: `serial://ttyS0` has no absolute path after its `://`; write one as in "serial:///dev/ttyS0"
            8:22: channel a, link e: `0.0.0.0:502` is nothing to listen on; write tcp:// or udp:// and an address of this machine, as in "tcp://0.0.0.0:5020"
            9:22: channel a, link f: a link dials or listens, not both; make two links of it
            10:22: channel a, link g: `tcp://plc:502` is no address with a port; write one of this machine's, or all of them as in "tcp://0.0.0.0:5020"
            11:48: channel a, link h: `10.0.0.1/8` is an address within a network; write the network "10.0.0.0/8", or the address alone
            11:62: channel a, link h: `plc` is no network; write one such as "10.0.0.0/24", or one address
            11:69: channel a, link h: `from` is an integer; write a list of strings such as `from = ["10.0.0.0/24"]`
            11:91: channel a, link h: `max_connections` is `100`; use 1 to 64
            12:47: channel a, link i: `from` lets nobody in; name a network as in `from = ["10.0.0.0/24"]`, or remove it"#]],
    );
    let many: String = (0..65)
        .map(|n| format!("links.l{n}.connect = \"tcp://plc:1\"\n"))
        .collect();
    check(
        &channel(&many),
        expect!["68:7: channel a: more than 64 links; split the channel in two"],
    );
}
