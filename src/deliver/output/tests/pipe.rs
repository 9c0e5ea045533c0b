//! More of connections without acknowledgements: records that are wanted again, peers that accept and then close.

use super::*;

/// Records of the quarantine that are wanted again have numbers that the spool's have not.
const WANTED: usize = 1000;

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_under_a_record_wanted_again_costs_none_of_those_before_it() {
    let store = store(10, &[]);
    let pipe = Pipe::new(&store, Duration::from_secs(5));
    let dies = pipe.dies.clone();
    let running = start_with(&store, &config(1000, 10), pipe);
    running.after(1).await;
    store.lock().unwrap().wanted.push(WANTED);
    // a send takes 100 ms
    *dies.lock().unwrap() = Some(Instant::now() + Duration::from_millis(50));
    running.committed.send_replace(1);
    running.drain().await;
    let store = store.lock().unwrap();
    assert!((0..10).chain([WANTED]).all(|record| store.accepted.contains(&record)), "{:?}", store.accepted);
    assert_eq!(store.delivered, 10);
}

#[tokio::test(start_paused = true)]
async fn a_record_wanted_again_leaves_the_quarantine_when_its_connection_has_stood() {
    let store = store(0, &[]);
    store.lock().unwrap().wanted.extend(WANTED..WANTED + 20);
    let pipe = Pipe::new(&store, Duration::from_secs(5));
    let dies = pipe.dies.clone();
    let running = start_with(&store, &config(1000, 10), pipe);
    running.after(4).await;
    assert_eq!(store.lock().unwrap().wanted.len(), 20, "sent, and not read by anybody");
    *dies.lock().unwrap() = Some(Instant::now());
    running.drain().await;
    let store = store.lock().unwrap();
    assert!((WANTED..WANTED + 20).all(|record| store.accepted.contains(&record)), "{:?}", store.accepted);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_accepts_and_then_closes_is_tried_ever_less_often_and_is_one_trouble() {
    let store = store(100, &[]);
    let pipe = Pipe {
        lives: Some((Duration::from_millis(1), Instant::now() + Duration::from_secs(24 * 3600))),
        ..Pipe::new(&store, Duration::from_secs(1))
    };
    let sends = pipe.sends.clone();
    let running = start_with(&store, &config(1000, 10), pipe);
    running.after(60).await;
    let first = running.status.standing();
    assert!(matches!(first.state, State::Retrying { reason: Reason::Broken, .. }), "{first:?}");
    running.after(3600).await;
    assert_eq!(running.status.standing().since, first.since);
    // some 130 tries, half a minute apart, of at most two sends
    assert!(*sends.lock().unwrap() < 400, "{} sends", sends.lock().unwrap());
    assert_eq!(store.lock().unwrap().cursor, 0);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_given_up_is_not_counted_as_delivered_too() {
    for failing in [0, 1] {
        let store = store(30, &[]);
        let running = start_with(&store, &config(1000, 10), Pipe::new(&store, Duration::from_secs(3)));
        running.after(1).await;
        {
            let mut store = store.lock().unwrap();
            assert_eq!(store.cursor, 0, "all are sent, none is confirmed");
            (store.skip_to, store.failing_skips) = (Some(20), failing);
            store.wanted.push(WANTED);
        }
        running.skip.send_replace(());
        running.drain().await;
        let store = store.lock().unwrap();
        assert_eq!((store.skipped.len(), store.delivered), (20, 10), "{failing} failing");
        assert!((20..30).all(|record| store.accepted.contains(&record)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_closes_idle_connections_too_early_is_told_apart_and_loses_nothing() {
    let store = store(10, &[]);
    let mut pipe = Pipe::new(&store, Duration::from_secs(1));
    let patient = Instant::now() + Duration::from_secs(3600);
    pipe.lives = Some((Duration::from_secs(5), patient));
    let running = start_with(&store, &config(1000, 10), pipe);
    running.after(600).await;
    let State::Holding { text, .. } = running.status.standing().state else {
        panic!("{:?}", running.status.standing());
    };
    assert!(text.contains("idle time-out"), "{text}");
    assert_eq!(store.lock().unwrap().cursor, 0);
    let status = running.drain().await;
    assert!(Instant::now() > patient);
    assert!(status.retries().any(|(reason, count)| reason == Reason::Broken && count == 2));
    assert_eq!(store.lock().unwrap().delivered, 10);
}
