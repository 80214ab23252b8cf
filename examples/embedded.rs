//! An application that embeds the service beside its own work: one process serves an HTTP-like
//! loop of its own (here, a ticker) and answers authorization requests.
//!
//! `nats-callout init --dir demo` writes what both need; start `nats-server -c
//! demo/nats-server.conf`, then `cargo run --example embedded -- demo/nats-callout.toml`.

use std::path::Path;
use std::time::Duration;

use nats_callout::callout::CancellationToken;
use nats_callout::config::{Config, Files};
use nats_callout::daemon;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args().nth(1).ok_or("usage: embedded CONFIG")?;
    let config = Config::load(Path::new(&file), Files::MustExist)?.config;
    let store = config.open_store().await?;

    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let service = tokio::spawn(async move {
        daemon::run(&config, store, stop, || println!("answering authorization requests")).await
    });

    let mut ticks = tokio::time::interval(Duration::from_secs(5));
    loop {
        tokio::select! {
            _ = ticks.tick() => println!("the application's own work"),
            stopped = tokio::signal::ctrl_c() => {
                stopped?;
                break;
            }
        }
    }
    shutdown.cancel();
    service.await??;
    Ok(())
}
