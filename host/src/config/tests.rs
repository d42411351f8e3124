//! Every rule of the file, in the operator's own terms: TOML in, faults out.

use std::path::PathBuf;

use super::{Checked, Faults, Host, Origin, parse};

fn parsed(text: &str) -> Result<Checked<Host>, Faults> {
    let origin = Origin {
        name: "plant.toml".into(),
        folder: PathBuf::from("/plant"),
    };
    parse(text, &origin)
}

#[test]
fn the_quickstart_is_in_order() {
    let text = include_str!("../../../examples/quickstart.toml");
    let host = parsed(text)
        .unwrap_or_else(|faults| panic!("{faults}"))
        .value;
    assert_eq!(host.channels.len(), 2);
    assert_eq!(host.channels[0].tags.len(), 8);
}
