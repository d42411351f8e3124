const FURNACE: u8 = 1;

bulkhead_sdk::export!(FURNACE);

fn main() {}
