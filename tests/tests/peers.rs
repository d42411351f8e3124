//! The devices against which everything else is tested hold what they say, as a client written by others reads it.
//! Were one of them wrong, a driver that reads it right would fail, and one that reads it wrong might pass.

use anyhow::Result;
use bulkhead_tests::Peer;
use bulkhead_tests::mbpoll::{self, Table};

/// The known registers from 100 to 199, spelled out; unit 2.
const KNOWN: [u16; 100] = [
    2, 0xabcd, 0xcfc7, 0x8009, // unit id, uint16, int16, bits
    0xf8a4, 0x32eb, 0x32eb, 0xf8a4, 0xa4f8, 0xeb32, 0xeb32, 0xa4f8, // int32
    0xce0a, 0x6a14, 0x6a14, 0xce0a, 0x0ace, 0x146a, 0x146a, 0x0ace, // uint32
    0x42f6, 0xe979, 0xe979, 0x42f6, 0xf642, 0x79e9, 0x79e9, 0xf642, // float32
    0xeedd, 0xef0b, 0x8216, 0x7eeb, 0x7eeb, 0x8216, 0xef0b, 0xeedd, // int64 ABCD, CDAB
    0xddee, 0x0bef, 0x1682, 0xeb7e, 0xeb7e, 0x1682, 0x0bef, 0xddee, // int64 BADC, DCBA
    0xab54, 0xa98c, 0xeb1f, 0x0ad2, 0x0ad2, 0xeb1f, 0xa98c, 0xab54, // uint64 ABCD, CDAB
    0x54ab, 0x8ca9, 0x1feb, 0xd20a, 0xd20a, 0x1feb, 0x8ca9, 0x54ab, // uint64 BADC, DCBA
    0xc0c3, 0x4a45, 0x87e7, 0xc06e, 0xc06e, 0x87e7, 0x4a45, 0xc0c3, // float64 ABCD, CDAB
    0xc3c0, 0x454a, 0xe787, 0x6ec0, 0x6ec0, 0xe787, 0x454a, 0xc3c0, // float64 BADC, DCBA
    0x5075, 0x6d70, 0x2037, 0x202f, 0x206c, 0x696e, 0x6520, 0x4100, // string, high byte first
    0x7550, 0x706d, 0x3720, 0x2f20, 0x6c20, 0x6e69, 0x2065, 0x0041, // string, low byte first
    0x3231, 0x20c2, 0xb5c2, 0xb043, // string in UTF-8
    0xc7cf, 0xcdab, 0, 0xffff, // low byte first; the limits
];

fn texts<T: ToString>(values: impl IntoIterator<Item = T>) -> Vec<String> {
    values.into_iter().map(|value| value.to_string()).collect()
}

/// What all three devices have in common.
fn check(port: u16) -> Result<()> {
    for table in [Table::Holding, Table::Input] {
        assert_eq!(mbpoll::read(port, 2, table, 100, 100)?, texts(KNOWN));
        assert_eq!(mbpoll::read(port, 3, table, 100, 1)?, ["3"]);
        assert_eq!(
            mbpoll::read(port, 3, table, 200, 3)?,
            ["3200", "3201", "3202"]
        );
    }
    // What mbpoll makes of the registers by itself, so that the table above is not our invention alone.
    assert_eq!(
        mbpoll::read(port, 1, Table::HoldingFloat32, 120, 1)?,
        ["123.456"]
    );
    assert_eq!(
        mbpoll::read(port, 1, Table::HoldingFloat32Swapped, 122, 1)?,
        ["123.456"]
    );
    assert_eq!(
        mbpoll::read(port, 1, Table::HoldingInt32, 104, 1)?,
        ["-123456789"]
    );

    let coils = (100..210).map(|address| u8::from(address < 200 && address % 3 == 0));
    assert_eq!(mbpoll::read(port, 1, Table::Coils, 100, 110)?, texts(coils));
    let discrete = (100..210).map(|address| {
        u8::from(if address < 200 {
            address % 5 == 0
        } else {
            address % 2 == 1
        })
    });
    assert_eq!(
        mbpoll::read(port, 1, Table::Discrete, 100, 110)?,
        texts(discrete)
    );

    mbpoll::write(port, 1, Table::Holding, 210, &["1234"])?;
    mbpoll::write(port, 1, Table::Holding, 211, &["1", "65535", "3"])?;
    mbpoll::write(port, 1, Table::HoldingFloat32, 220, &["-1.5"])?;
    mbpoll::write(port, 1, Table::Coils, 210, &["1"])?;
    mbpoll::write(port, 1, Table::Coils, 211, &["0", "1", "1"])?;
    assert_eq!(
        mbpoll::read(port, 1, Table::Holding, 210, 4)?,
        ["1234", "1", "65535", "3"]
    );
    assert_eq!(
        mbpoll::read(port, 1, Table::HoldingFloat32, 220, 1)?,
        ["-1.5"]
    );
    assert_eq!(
        mbpoll::read(port, 1, Table::Coils, 210, 5)?,
        ["1", "0", "1", "1", "0"]
    );
    assert_eq!(
        mbpoll::read(port, 2, Table::Holding, 210, 1)?,
        ["2210"],
        "units share no registers"
    );

    for (unit, first, words) in [
        (1, 1000, "Illegal data address"),
        (9, 100, "Target device failed to respond"),
    ] {
        let answer = mbpoll::read(port, unit, Table::Holding, first, 1);
        assert!(
            answer
                .as_ref()
                .is_err_and(|refusal| refusal.to_string().contains(words)),
            "unit {unit}, register {first}: {answer:?}"
        );
    }
    Ok(())
}

/// What the device itself says of the writes in [`check`], and of the requests.
fn check_from_within(mut peer: Peer) -> Result<()> {
    assert_eq!(peer.holding(1, 210, 4)?, [1234, 1, 65535, 3]);
    assert_eq!(peer.holding(1, 220, 2)?, [0xbfc0, 0]);
    assert_eq!(peer.coils(1, 210, 5)?, [true, false, true, true, false]);
    assert!(peer.holding(1, 1000, 1).is_err());
    let requests = peer.requests()?;
    let of = |unit, function| requests.get(&(unit, function)).copied().unwrap_or(0);
    assert_eq!(
        [1, 2, 5, 6, 15, 16].map(|function| of(1, function)),
        [2, 1, 1, 1, 1, 2],
        "{requests:?}"
    );
    assert_eq!((of(3, 3), of(3, 4), of(9, 3)), (2, 2, 1), "{requests:?}");
    Ok(())
}

#[test]
fn pymodbus_holds_what_it_says() -> Result<()> {
    let peer = Peer::pymodbus()?;
    check(peer.port)?;
    check_from_within(peer)
}

#[test]
fn pymodbus_protects_what_is_known() -> Result<()> {
    let mut peer = Peer::pymodbus()?;
    let refusal = mbpoll::write(peer.port, 1, Table::Holding, 101, &["5"])
        .unwrap_err()
        .to_string();
    assert!(refusal.contains("Illegal data address"), "{refusal}");
    assert_eq!(peer.holding(1, 101, 1)?, [0xabcd]);
    Ok(())
}

#[test]
fn libmodbus_holds_what_it_says() -> Result<()> {
    let peer = Peer::libmodbus()?;
    check(peer.port)?;
    check_from_within(peer)
}

#[test]
fn the_simulated_device_holds_what_it_says() -> Result<()> {
    let peer = Peer::simulated(&["--units", "1-3", "--registers", "1000", "--bits", "1000"])?;
    check(peer.port)?;
    check_from_within(peer)
}

#[test]
fn the_simulated_device_moves_and_counts_its_reads() -> Result<()> {
    let peer = Peer::simulated(&["--units", "1", "--period", "1h", "--json"])?;
    for count in ["1", "2", "3"] {
        assert_eq!(mbpoll::read(peer.port, 1, Table::Holding, 0, 1)?, [count]);
    }
    // At the very start of a turn: the square is up, and the first of the running lights is on.
    assert_eq!(mbpoll::read(peer.port, 1, Table::Holding, 3, 1)?, ["1000"]);
    assert_eq!(
        mbpoll::read(peer.port, 1, Table::Coils, 0, 3)?,
        ["1", "1", "0"]
    );

    let ended = peer.end()?;
    assert_eq!(ended.code(), Some(0));
    let counts: serde_json::Value =
        serde_json::from_str(ended.out.last().expect("counts at the end"))?;
    assert_eq!(
        counts["units"]["1"]["functions"],
        serde_json::json!({"1": 1, "3": 4}),
        "{counts}"
    );
    Ok(())
}

#[test]
fn the_simulated_device_takes_faults_while_it_runs() -> Result<()> {
    let mut peer = Peer::simulated(&["--fault", "exception:6"])?;
    let read = |port| mbpoll::read(port, 1, Table::Holding, 101, 1);
    let refusal = read(peer.port)
        .expect_err("the device is told to refuse")
        .to_string();
    assert!(refusal.contains("busy"), "{refusal}");
    peer.set_faults(&[])?;
    assert_eq!(read(peer.port)?, ["43981"]);
    peer.set_faults(&["wrong-transaction:unit=2", "one-byte:1:unit=1"])?;
    assert_eq!(read(peer.port)?, ["43981"]);
    assert!(
        mbpoll::read(peer.port, 2, Table::Holding, 101, 1).is_err(),
        "mbpoll took an answer to another request"
    );
    assert!(peer.set_faults(&["explode"]).is_err());
    Ok(())
}

#[test]
fn a_taken_port_is_named() -> Result<()> {
    let peer = Peer::simulated(&[])?;
    let ended = bulkhead_tests::run(&["simulate", "modbus", "--listen", &peer.address()])?;
    assert_eq!(ended.code(), Some(3), "{ended:?}");
    let message = ended.err.join("\n");
    assert!(
        message.contains(&peer.address()) && message.contains("--listen"),
        "{message}"
    );
    Ok(())
}
