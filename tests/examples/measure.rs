//! throwaway
use std::time::{Duration, Instant};
use taskyard_proto::v1::*;
use taskyard_tests::client::*;
use taskyard_proto::v1::watch_response::Item;
#[tokio::main(flavor="multi_thread", worker_threads=2)]
async fn main() {
    let endpoint = std::env::args().nth(1).unwrap();
    let mut c = Client::connect(&endpoint).await;
    let s = new_session("lat");
    let mut w = c.tasks.watch(WatchRequest{sessions: vec![WatchedSession{session_id: s.clone(), cursor: String::new()}], ..Default::default()}).await.unwrap().into_inner();
    let mut lat = Vec::new(); let mut end = Vec::new(); let mut cr = Vec::new();
    let n: usize = std::env::args().nth(2).unwrap().parse().unwrap();
    for _ in 0..n {
        let t = Instant::now();
        let id = c.create(&s, command(&["true"])).await.id;
        cr.push(t.elapsed());
        loop {
            let m = w.message().await.unwrap().unwrap();
            if let Some(Item::Event(e)) = m.item { if e.task_id == id { if let Some(ch) = e.change {
                if ch.state() == TaskState::Running { lat.push(t.elapsed()); }
                if ch.state() as i32 >= 4 { end.push(t.elapsed()); break; }
            }}}
        }
    }
    for (n, v) in [("create", &mut cr), ("running seen", &mut lat), ("end seen", &mut end)] { v.sort(); println!("{n}: p50 {:?} p99 {:?} max {:?}", v[v.len()/2], v[v.len()*99/100], v[v.len()-1]); }
    let until = Instant::now() + Duration::from_secs(5);
    let mut js = Vec::new();
    for k in 0..64 {
        let mut c = if k % 8 == 0 { Client::connect(&endpoint).await } else { c.clone() };
        let s = format!("{s}-{k}");
        js.push(tokio::spawn(async move { let mut n = 0; let mut worst=Duration::ZERO; let mut t = command(&["true"]); t.queue = "nobody".into(); while Instant::now() < until { let a=Instant::now(); c.create(&s, t.clone()).await; worst=worst.max(a.elapsed()); n += 1; } (n,worst) }));
    }
    let mut total = 0; let mut worst=Duration::ZERO; for j in js { let (n,w)= j.await.unwrap(); total+=n; worst=worst.max(w); }
    println!("creates/s with 64 clients: {} worst {worst:?}", total / 5);
}
