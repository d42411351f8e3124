//! smoke
use bulkhead::{config, supervisor::Host, bus::{Received, Message, Bus}};
fn main() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let t0 = std::time::Instant::now();
    let rt = tokio::runtime::Runtime::new().unwrap();
    rt.block_on(async {
        let path = std::env::args().nth(1).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let origin = config::Origin { name: path.clone(), folder: std::path::Path::new(&path).parent().unwrap().to_owned() };
        let checked = config::parse(&text, &origin).unwrap_or_else(|e| panic!("{e}"));
        let bus = Bus::new();
        let mut sub = bus.subscribe(1024);
        let host = match Host::start_with_bus(checked, bus, |p| eprintln!("{:?} {p:?}", t0.elapsed())).await { Ok(h) => h, Err(e) => { eprintln!("{e}"); std::process::exit(1) } };
        let mut n = 0;
        let end = tokio::time::Instant::now() + std::time::Duration::from_secs(3);
        while let Ok(Some(m)) = tokio::time::timeout_at(end, sub.next()).await {
            n += 1;
            if n < 30 { match m { Received::Message(Message::Samples(b)) => eprintln!("{:?} {} #{} {:?}", t0.elapsed(), b.instance, b.sequence, &b.samples[..b.samples.len().min(2)]), other => eprintln!("{:?} {other:?}", t0.elapsed()) } }
        }
        for c in host.channels() { eprintln!("{:#?}", c.status()); }
        host.stop(std::time::Duration::from_secs(5)).await;
        eprintln!("stopped {n}");
    });
}
