//! Transactions take effect at their end, completely, or fail with EAGAIN.

use alloc::format;

use super::*;

fn begin(store: &mut Store, dom: u16) -> u32 {
    let id = say(store, dom, xs::XS_TRANSACTION_START, "\0").unwrap();
    id.parse().unwrap()
}

#[test]
fn all_or_nothing() {
    let mut store = store_with(&[1]);
    say(&mut store, 1, xs::XS_WATCH, "data\0t\0").unwrap();
    events(&mut store, 1);
    let (one, two) = (begin(&mut store, 1), begin(&mut store, 1));
    for (id, path) in [
        (one, "data/one/a"),
        (one, "data/one/b"),
        (two, "data/one/c"),
    ] {
        assert_eq!(
            say_in(&mut store, 1, id, xs::XS_WRITE, &format!("{path}\0v")),
            ok()
        );
    }
    assert_eq!(
        say(&mut store, 1, xs::XS_READ, "data/one/a\0"),
        error("ENOENT")
    );
    assert_eq!(
        say_in(&mut store, 1, one, xs::XS_READ, "data/one/a\0"),
        Ok("v".to_string())
    );
    assert_eq!(events(&mut store, 1), []);
    assert_eq!(
        say_in(&mut store, 1, one, xs::XS_TRANSACTION_START, "\0"),
        error("EBUSY")
    );
    assert_eq!(
        say_in(&mut store, 1, one, xs::XS_TRANSACTION_END, "X\0"),
        error("EINVAL")
    );
    assert_eq!(
        say_in(&mut store, 1, one, xs::XS_TRANSACTION_END, "T\0"),
        ok()
    );
    let told: Vec<String> = events(&mut store, 1)
        .into_iter()
        .map(|event| event.0)
        .collect();
    assert_eq!(told, ["data/one/a", "data/one/b"]);
    assert_eq!(
        say_in(&mut store, 1, two, xs::XS_TRANSACTION_END, "F\0"),
        ok()
    );
    assert_eq!(
        say(&mut store, 1, xs::XS_DIRECTORY, "data/one\0"),
        Ok("a\0b".to_string())
    );
    for id in [one, 99, 0] {
        assert_eq!(
            say_in(&mut store, 1, id, xs::XS_TRANSACTION_END, "T\0"),
            error("ENOENT")
        );
    }
    assert_eq!(
        say_in(&mut store, 1, 99, xs::XS_READ, "data\0"),
        error("ENOENT")
    );
    check(&store);
}

#[test]
fn what_changed_meanwhile_is_a_conflict_and_only_that() {
    let mut store = store_with(&[1, 2]);
    for path in ["a", "b"] {
        store
            .write(&format!("/local/domain/1/data/{path}"), "old")
            .unwrap();
    }
    let id = begin(&mut store, 1);
    assert_eq!(
        say_in(&mut store, 1, id, xs::XS_READ, "data/a\0"),
        Ok("old".to_string())
    );
    say(&mut store, 2, xs::XS_WRITE, "data/elsewhere\0x").unwrap();
    store.write("/local/domain/1/data/b", "new").unwrap();
    assert_eq!(
        say_in(&mut store, 1, id, xs::XS_TRANSACTION_END, "T\0"),
        ok()
    );

    let id = begin(&mut store, 1);
    assert_eq!(
        say_in(&mut store, 1, id, xs::XS_READ, "data/a\0"),
        Ok("old".to_string())
    );
    assert_eq!(
        say_in(&mut store, 1, id, xs::XS_WRITE, "data/b\0mine"),
        ok()
    );
    store.write("/local/domain/1/data/a", "new").unwrap();
    // A value that was read once doesn't change within the transaction.
    assert_eq!(
        say_in(&mut store, 1, id, xs::XS_READ, "data/a\0"),
        Ok("old".to_string())
    );
    assert_eq!(
        say_in(&mut store, 1, id, xs::XS_TRANSACTION_END, "T\0"),
        error("EAGAIN")
    );
    assert_eq!(store.read("/local/domain/1/data/b"), Some(&b"new"[..]));

    // A missing node that appears is a change, and so is a node that is removed and made again.
    for (path, undo) in [("data/missing", false), ("data/a", true)] {
        let id = begin(&mut store, 1);
        let _ = say_in(&mut store, 1, id, xs::XS_READ, &format!("{path}\0"));
        let whole = format!("/local/domain/1/{path}");
        if undo {
            store.remove(&whole).unwrap();
        }
        store.write(&whole, "new").unwrap();
        assert_eq!(
            say_in(&mut store, 1, id, xs::XS_TRANSACTION_END, "T\0"),
            error("EAGAIN")
        );
    }
    check(&store);
}

#[test]
fn transactions_have_limits() {
    let mut store = store_with(&[1]);
    let ids: Vec<u32> = (0..limits::TRANSACTIONS)
        .map(|_| begin(&mut store, 1))
        .collect();
    assert_eq!(
        say(&mut store, 1, xs::XS_TRANSACTION_START, "\0"),
        error("ENOSPC")
    );
    let large = "x".repeat(1900);
    let mut refused = 0;
    for (number, id) in ids.iter().cycle().take(400).enumerate() {
        let write = format!("data/{}/{number}\0{large}", number % 7);
        match say_in(&mut store, 1, *id, xs::XS_WRITE, &write) {
            Ok(_) => {}
            Err(name) => {
                assert_eq!(name, "ENOMEM");
                refused += 1;
            }
        }
    }
    assert!(refused > 0 && store.usage(DomId(1)).bytes <= limits::MEMORY);
    check(&store);
    say(&mut store, 1, xs::XS_RESET_WATCHES, "\0").unwrap();
    check(&store);
    // More nodes than a guest may own, each of them small.
    let id = begin(&mut store, 1);
    let (mut made, mut result) = (0, ok());
    while result.is_ok() {
        made += 1;
        let path = format!("data/{}/{made}", made / 100);
        result = say_in(&mut store, 1, id, xs::XS_MKDIR, &format!("{path}\0"));
    }
    assert!(["ENOSPC", "ENOMEM"].contains(&result.unwrap_err().as_str()));
    let _ = say_in(&mut store, 1, id, xs::XS_TRANSACTION_END, "T\0");
    assert!(store.usage(DomId(1)).nodes <= limits::NODES);
    check(&store);
}
