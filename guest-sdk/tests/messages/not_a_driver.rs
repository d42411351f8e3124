struct Furnace;

bulkhead_sdk::export!(Furnace);

fn main() {}
