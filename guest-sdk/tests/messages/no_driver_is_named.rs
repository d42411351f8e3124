bulkhead_sdk::export!();

fn main() {}
