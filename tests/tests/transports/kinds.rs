//! What `check` says of a link that its driver cannot use.

use bulkhead_tests::Folder;

#[test]
fn a_link_of_a_kind_that_the_driver_does_not_wish_for_is_refused_with_those_that_it_does() {
    let folder = Folder::new().unwrap();
    let check = |keys: &str| {
        let toml = format!(
            "[[channel]]\nid = \"a\"\ndriver = \"$DRIVERS/modbus.wasm\"\nlinks.plc = {{ {keys} }}\n"
        );
        folder.write_config(&toml).unwrap();
        let ended = folder.run(&["check", Folder::CONFIG]).unwrap();
        (ended.code(), format!("{ended:?}"))
    };
    for (keys, key) in [
        (r#"connect = "udp://10.0.0.9:502""#, "connect"),
        (r#"dial = ["udp://10.0.0.0/24:502"]"#, "dial"),
        (
            r#"listen = "udp://127.0.0.1:502", from = ["127.0.0.1"]"#,
            "listen",
        ),
    ] {
        let (code, said) = check(keys);
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("link plc")
                && said.contains("the driver modbus takes tcp or tls or unix or serial here")
                && said.contains(&format!(" here, not udp; change `{key}`")),
            "{said}"
        );
    }
}
