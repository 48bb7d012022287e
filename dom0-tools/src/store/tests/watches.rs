//! Tests of watches and their events.

use alloc::format;

use super::*;

fn event(path: &str, token: &str) -> (String, String) {
    (path.to_string(), token.to_string())
}

#[test]
fn a_watch_is_told_at_once_and_of_each_change() {
    let mut store = store_with(&[1]);
    assert_eq!(say(&mut store, 1, xs::XS_WATCH, "data\0t\0"), ok());
    assert_eq!(events(&mut store, 1), [event("data", "t")]);
    assert_eq!(
        say(&mut store, 1, xs::XS_WATCH, "/local/domain/1/data\0other\0"),
        ok()
    );
    assert_eq!(
        events(&mut store, 1),
        [event("/local/domain/1/data", "other")]
    );
    assert_eq!(
        say(&mut store, 1, xs::XS_WATCH, "data\0t\0"),
        error("EEXIST")
    );
    store.write("/local/domain/1/data/x/y", "1").unwrap();
    let both = [
        event("data/x/y", "t"),
        event("/local/domain/1/data/x/y", "other"),
    ];
    assert_eq!(events(&mut store, 1), both);
    // Two changes before the guest looks cause one event.
    store.write("/local/domain/1/data/x/y", "2").unwrap();
    store.write("/local/domain/1/data/x/y", "3").unwrap();
    assert_eq!(events(&mut store, 1), both);
    assert_eq!(say(&mut store, 1, xs::XS_UNWATCH, "data\0other\0"), ok());
    assert_eq!(
        say(&mut store, 1, xs::XS_UNWATCH, "data\0other\0"),
        error("ENOENT")
    );
    store
        .set_perms("/local/domain/1/data/x", Perms::readable_by(DomId(1)))
        .unwrap();
    store.write("/local/domain/1/name", "n").unwrap();
    assert_eq!(events(&mut store, 1), [event("data/x", "t")]);
    assert_eq!(say(&mut store, 1, xs::XS_RESET_WATCHES, "\0"), ok());
    store.write("/local/domain/1/data/x/y", "4").unwrap();
    assert_eq!(events(&mut store, 1), []);
    check(&store);
}

#[test]
fn a_removed_node_is_told_to_those_above_and_below() {
    let mut store = store_with(&[1]);
    store.write("/local/domain/1/data/x/y", "").unwrap();
    for watch in ["data\0above\0", "data/x/y\0exact\0", "data/x/z\0none\0"] {
        say(&mut store, 1, xs::XS_WATCH, watch).unwrap();
    }
    events(&mut store, 1);
    store.remove("/local/domain/1/data/x").unwrap();
    let wanted = [event("data/x", "above"), event("data/x/y", "exact")];
    assert_eq!(events(&mut store, 1), wanted);
}

#[test]
fn nobody_is_told_of_what_it_may_not_read() {
    let mut store = store_with(&[1, 2]);
    for watch in ["/\0all\0", "@releaseDomain\0r\0", "@introduceDomain\0i\0"] {
        assert_eq!(say(&mut store, 2, xs::XS_WATCH, watch), ok());
    }
    events(&mut store, 2);
    say(&mut store, 1, xs::XS_WRITE, "data/secret\0x").unwrap();
    store.introduce(DomId(3));
    store.release(DomId(3));
    assert_eq!(events(&mut store, 2), []);
    say(&mut store, 1, xs::XS_SET_PERMS, "data/secret\0r1\0").unwrap();
    assert_eq!(
        events(&mut store, 2),
        [event("/local/domain/1/data/secret", "all")]
    );
    store
        .set_perms(path::RELEASED, Perms::readable_by(DomId(2)))
        .unwrap();
    events(&mut store, 2);
    store.introduce(DomId(3));
    store.release(DomId(3));
    assert_eq!(events(&mut store, 2), [event("@releaseDomain", "r")]);
}

#[test]
fn watches_are_counted() {
    let mut store = store_with(&[1]);
    for number in 0..limits::WATCHES {
        assert_eq!(
            say(&mut store, 1, xs::XS_WATCH, &format!("data/{number}\0t\0")),
            ok()
        );
        events(&mut store, 1);
    }
    assert_eq!(
        say(&mut store, 1, xs::XS_WATCH, "data\0t\0"),
        error("E2BIG")
    );
    check(&store);
    say(&mut store, 1, xs::XS_RESET_WATCHES, "\0").unwrap();
    for number in 0.. {
        let watch = format!("data/{number}\0{}\0", "t".repeat(4000));
        match say(&mut store, 1, xs::XS_WATCH, &watch) {
            Ok(_) => events(&mut store, 1),
            Err(name) => {
                assert_eq!(name, "ENOMEM");
                break;
            }
        };
    }
    check(&store);
    // An event that is too long for a message is dropped, with no other effect.
    store.write("/local/domain/1/data/0/a", "").unwrap();
    let long = format!("/local/domain/1/data/0/{}", "b".repeat(200));
    store.write(&long, "").unwrap();
    events(&mut store, 1);
}

#[test]
fn who_doesn_t_look_is_told_less_exactly_but_told() {
    let mut store = store_with(&[1, 2]);
    say(&mut store, 2, xs::XS_SET_PERMS, "data\0r2\0").unwrap();
    for watch in ["/local/domain/2/data\0a\0", "/local/domain/2/data/500\0b\0"] {
        say(&mut store, 1, xs::XS_WATCH, watch).unwrap();
        events(&mut store, 1);
    }
    for round in 0..3 {
        for number in 0..600 {
            store
                .write(
                    &format!("/local/domain/2/data/{number}"),
                    &format!("{round}"),
                )
                .unwrap();
        }
    }
    let events = events(&mut store, 1);
    assert!(
        events.len() <= limits::EVENT_BYTES / 64 + 2,
        "{}",
        events.len()
    );
    assert!(events.contains(&event("/local/domain/2/data", "a")));
    assert!(events.contains(&event("/local/domain/2/data/500", "b")));
}
