//! Creations that are asked for again.

use tokio::join;
use tonic::Code;

use crate::harness::*;

#[tokio::test]
async fn a_creation_that_is_repeated_makes_one_sandbox() {
    let (_server, client) = main_pool().await;
    let id = |id: &str| {
        let id = id.to_owned();
        move |request: &mut v1::CreateSandboxRequest| request.request_id = id
    };
    let (one, same) = join!(client.named_with(id("a")), client.named_with(id("a")));
    assert_eq!(one.id, same.id);
    let (other, unnamed) = join!(client.named_with(id("b")), client.named());
    assert_ne!(one.id, other.id);
    assert_ne!(one.id, unnamed.id);
    // Whatever else is asked for.
    let again = client.named_with(|request| {
        request.request_id = "a".into();
        request.labels = [("another".into(), String::new())].into();
    });
    assert_eq!(again.await.id, one.id);
    one.delete().await;
    let next = client.named_with(id("a")).await;
    assert_ne!(next.id, same.id);
    for sandbox in [next, other, unnamed] {
        sandbox.delete().await;
    }
}

#[tokio::test]
async fn a_creation_that_is_repeated_makes_one_context() {
    let (_server, client) = main_pool().await;
    let (named, other) = join!(client.named(), client.named());
    let id = |request: &mut v1::CreateContextRequest| request.request_id = "a".into();
    let (one, same) = join!(named.try_context(id), named.try_context(id));
    let one = one.unwrap().context_id;
    assert_eq!(one, same.unwrap().context_id);
    assert_ne!(one, other.try_context(id).await.unwrap().context_id);
    assert_ne!(one, named.context().await.context_id);
    named.delete_context(&one).await.unwrap();
    let next = named.try_context(id).await.unwrap();
    assert_ne!(one, next.context_id);
    // One that has ended by itself is not found.
    let crash = cell("import os; os._exit(3)", &next).run(&client).await;
    assert!(crash.finished.as_ref().unwrap().context_ended);
    let after = named.try_context(id).await.unwrap();
    assert_ne!(next.context_id, after.context_id);
    named.delete().await;
    other.delete().await;
}

#[tokio::test]
async fn a_request_id_is_checked() {
    let (_server, client) = main_pool().await;
    let named = client.named().await;
    for (id, complaint) in [
        ("a b".to_owned(), "only A-Z"),
        ("x".repeat(129), "at most 128"),
    ] {
        let of_sandbox = client.try_named(|request| request.request_id = id.clone());
        let of_context = named.try_context(|request| request.request_id = id.clone());
        let refused = [of_sandbox.await.unwrap_err(), of_context.await.unwrap_err()];
        for status in refused {
            assert_eq!(status.code(), Code::InvalidArgument, "{status}");
            assert!(status.message().contains("request_id"), "{status}");
            assert!(status.message().contains(complaint), "{status}");
        }
    }
    named.delete().await;
}
