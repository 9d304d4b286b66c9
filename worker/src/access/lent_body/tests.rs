use futures::StreamExt;
use http_body_util::{BodyExt, Full, StreamBody};

use super::*;

fn body() -> Body {
    Body::new(Full::new(Bytes::from_static(b"message")))
}

/// A body of some messages that ends behind them, or goes on.
fn messages(messages: Vec<Bytes>, goes_on: bool) -> Body {
    let came = futures::stream::iter(
        messages
            .into_iter()
            .map(|data| Ok::<_, Status>(Frame::data(data))),
    );
    Body::new(if goes_on {
        StreamBody::new(came.chain(futures::stream::pending()).boxed())
    } else {
        StreamBody::new(came.boxed())
    })
}

async fn read(lent: &mut LentBody) -> Bytes {
    let frame = lent.frame().await.expect("a frame").expect("no error");
    frame.into_data().expect("data")
}

async fn whole(body: Body) -> Bytes {
    body.collect().await.expect("a body").to_bytes()
}

#[tokio::test]
async fn a_body_comes_back_until_somebody_looks_into_it() {
    let (lent, pledge) = lend(body());
    drop(lent);
    let back = pledge.redeem(Word::None).expect("nobody looked");
    assert_eq!(whole(back).await, "message");

    let (mut lent, pledge) = lend(body());
    assert_eq!(read(&mut lent).await, "message");
    assert!(pledge.redeem(Word::None).is_none());

    let (mut lent, pledge) = lend(body());
    assert!(pledge.redeem(Word::None).is_some());
    assert!(lent.frame().await.expect("an end").is_err(), "sent once");
}

#[tokio::test]
async fn a_body_that_was_read_comes_back_when_the_server_took_nothing_of_it() {
    let parts = || vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")];
    // read to the last message, and behind it
    for looks_behind in [false, true] {
        let (mut lent, pledge) = lend(messages(parts(), false));
        assert_eq!(read(&mut lent).await, "one");
        assert_eq!(read(&mut lent).await, "two");
        if looks_behind {
            assert!(lent.frame().await.is_none());
        }
        let back = pledge.redeem(Word::NothingTaken).expect("a whole copy");
        // and once more
        let (mut lent, pledge) = lend(back);
        assert_eq!(read(&mut lent).await, "one");
        assert_eq!(read(&mut lent).await, "two");
        let back = pledge.redeem(Word::NothingTaken).expect("a whole copy");
        assert_eq!(whole(back).await, "onetwo");
    }
}

#[tokio::test]
async fn a_stream_that_was_read_does_not_come_back() {
    let (mut lent, pledge) = lend(messages(vec![Bytes::from_static(b"hello")], true));
    assert_eq!(read(&mut lent).await, "hello");
    assert!(pledge.redeem(Word::NothingTaken).is_none());

    let two = vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")];
    let (mut lent, pledge) = lend(messages(two, false));
    assert_eq!(read(&mut lent).await, "one");
    assert!(
        pledge.redeem(Word::NothingTaken).is_none(),
        "half of it read"
    );
}

#[tokio::test]
async fn no_more_is_kept_than_the_bound_and_only_as_long_as_somebody_may_ask() {
    for (size, comes_back) in [(MAX_KEPT / 2, true), (MAX_KEPT, false)] {
        let (mut lent, pledge) = lend(messages(vec![Bytes::from(vec![7; size])], false));
        assert_eq!(read(&mut lent).await.len(), size);
        assert_eq!(pledge.redeem(Word::NothingTaken).is_some(), comes_back);
    }

    let small = vec![Bytes::from_static(b"x"); MAX_KEPT];
    let (mut lent, pledge) = lend(messages(small, false));
    while lent.frame().await.is_some() {}
    assert!(lock(&lent.loan).kept_size <= MAX_KEPT);
    assert!(pledge.redeem(Word::NothingTaken).is_none());

    let two = vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")];
    let (mut lent, pledge) = lend(messages(two, false));
    assert_eq!(read(&mut lent).await, "one");
    // an answer is there
    drop(pledge);
    assert_eq!(read(&mut lent).await, "two");
    assert!(lock(&lent.loan).kept.is_none());
}
