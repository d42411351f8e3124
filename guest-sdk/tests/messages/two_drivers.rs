struct Furnace;
struct Oven;

bulkhead_sdk::export!(Furnace, Oven);

fn main() {}
