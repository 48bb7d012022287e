//! Tests of nodes, permissions and limits.

use alloc::format;
use alloc::vec;

use super::*;

#[test]
fn a_guest_reads_its_home_and_writes_where_it_may() {
    let mut store = store_with(&[1, 2]);
    store.write("/local/domain/1/name", "one").unwrap();
    store
        .set_perms("/local/domain/1/name", Perms::readable_by(DomId(1)))
        .unwrap();
    assert_eq!(
        say(&mut store, 1, xs::XS_READ, "name\0"),
        Ok("one".to_string())
    );
    assert_eq!(
        say(&mut store, 1, xs::XS_READ, "/local/domain/1/name\0"),
        Ok("one".to_string())
    );
    assert_eq!(
        say(&mut store, 2, xs::XS_READ, "/local/domain/1/name\0"),
        error("EACCES")
    );
    assert_eq!(
        say(&mut store, 1, xs::XS_WRITE, "name\0mine"),
        error("EACCES")
    );
    assert_eq!(say(&mut store, 1, xs::XS_WRITE, "data/a/b\0\0\x01"), ok());
    assert_eq!(
        ask(&mut store, 1, 0, xs::XS_READ, b"data/a/b\0"),
        Ok(vec![0, 1])
    );
    assert_eq!(
        say(&mut store, 1, xs::XS_DIRECTORY, "data\0"),
        Ok("a".to_string())
    );
    assert_eq!(say(&mut store, 1, xs::XS_DIRECTORY, "\0"), error("EINVAL"));
    assert_eq!(
        say(&mut store, 1, xs::XS_GET_PERMS, "name\0"),
        Ok("n0\0r1".to_string())
    );
    assert_eq!(
        say(&mut store, 1, xs::XS_GET_PERMS, "data/a\0"),
        Ok("n1".to_string())
    );
    assert_eq!(say(&mut store, 1, xs::XS_MKDIR, "data/a/b\0"), ok());
    assert_eq!(
        ask(&mut store, 1, 0, xs::XS_READ, b"data/a/b\0"),
        Ok(vec![0, 1])
    );
    check(&store);
}

#[test]
fn a_node_comes_with_its_permissions_in_one_step() {
    let mut store = store_with(&[1, 2]);
    for dom in [1, 2] {
        say(
            &mut store,
            dom,
            xs::XS_WATCH,
            "/local/domain/1/vif\0token\0",
        )
        .unwrap();
        events(&mut store, dom);
    }
    let path = "/local/domain/1/vif/0/mac";
    store.put(path, "a", Perms::readable_by(DomId(1))).unwrap();
    assert_eq!(
        say(&mut store, 1, xs::XS_GET_PERMS, "vif/0/mac\0"),
        Ok("n0\0r1".to_string())
    );
    // The nodes above inherit the home's permissions, so the guest may read them.
    assert_eq!(
        say(&mut store, 1, xs::XS_DIRECTORY, "vif\0"),
        Ok("0".to_string())
    );
    let told = [(path.to_string(), "token".to_string())];
    assert_eq!(events(&mut store, 1), told);
    assert_eq!(events(&mut store, 2), []);
    // A node that replaces another keeps the nodes below it.
    store
        .put("/local/domain/1/vif/0", "b", Perms::private(DomId(1)))
        .unwrap();
    assert_eq!(say(&mut store, 1, xs::XS_WRITE, "vif/0\0mine"), ok());
    assert_eq!(
        say(&mut store, 1, xs::XS_READ, "vif/0/mac\0"),
        Ok("a".to_string())
    );
    assert!(store.put("/a//b", "", Perms::private(DomId(1))).is_err());
    check(&store);
}

#[test]
fn what_is_missing_is_told_only_to_who_may_know() {
    let mut store = store_with(&[1, 2]);
    assert_eq!(
        say(&mut store, 1, xs::XS_READ, "device/vbd\0"),
        error("ENOENT")
    );
    assert_eq!(
        say(&mut store, 1, xs::XS_READ, "/local/domain/2/device\0"),
        error("EACCES")
    );
    assert_eq!(
        say(&mut store, 1, xs::XS_READ, "/tool/x/y\0"),
        error("EACCES")
    );
    assert_eq!(
        say(&mut store, 1, xs::XS_MKDIR, "device\0"),
        error("EACCES")
    );
    assert_eq!(say(&mut store, 1, xs::XS_RM, "data/x\0"), ok());
    assert_eq!(say(&mut store, 1, xs::XS_RM, "data/x/y\0"), error("ENOENT"));
    assert_eq!(say(&mut store, 1, xs::XS_RM, "/\0"), error("EACCES"));
    assert_eq!(store.remove("/"), Err(guest_pv_abi::errno::EINVAL));
    check(&store);
}

#[test]
fn removing_takes_all_below() {
    let mut store = store_with(&[1]);
    let before = store.usage(DomId(1));
    for path in ["data/a/b/c", "data/a/d", "data/e"] {
        assert_eq!(
            say(&mut store, 1, xs::XS_WRITE, &format!("{path}\0x")),
            ok()
        );
    }
    assert_eq!(say(&mut store, 1, xs::XS_RM, "data/a\0"), ok());
    assert_eq!(
        say(&mut store, 1, xs::XS_READ, "data/a/b/c\0"),
        error("ENOENT")
    );
    assert_eq!(say(&mut store, 1, xs::XS_RM, "data/e\0"), ok());
    assert_eq!(store.usage(DomId(1)), before);
    check(&store);
}

#[test]
fn permissions_are_the_owner_s_to_set() {
    let mut store = store_with(&[1, 2]);
    say(&mut store, 1, xs::XS_WRITE, "data/x\0v").unwrap();
    assert_eq!(
        say(&mut store, 1, xs::XS_SET_PERMS, "data/x\0n1\0b2\0"),
        ok()
    );
    let path = "/local/domain/1/data/x\0";
    assert_eq!(say(&mut store, 2, xs::XS_READ, path), Ok("v".to_string()));
    assert_eq!(say(&mut store, 2, xs::XS_WRITE, &format!("{path}w")), ok());
    assert_eq!(
        say(&mut store, 2, xs::XS_SET_PERMS, &format!("{path}b2\0")),
        error("EACCES")
    );
    assert_eq!(
        say(&mut store, 1, xs::XS_SET_PERMS, "data/x\0n2\0"),
        error("EPERM")
    );
    assert_eq!(
        say(&mut store, 1, xs::XS_SET_PERMS, "data/x\0"),
        error("EINVAL")
    );
    let many = "data/x\0n1\0r2\0r3\0r4\0r5\0r6\0";
    assert_eq!(say(&mut store, 1, xs::XS_SET_PERMS, many), error("ENOSPC"));
    // Nodes that domain 2 makes there belong to it, and are removed with it.
    say(
        &mut store,
        2,
        xs::XS_WRITE,
        "/local/domain/1/data/x/theirs\0",
    )
    .unwrap();
    assert_eq!(store.usage(DomId(2)).nodes, 2);
    store.release(DomId(2));
    assert_eq!(
        say(&mut store, 1, xs::XS_DIRECTORY, "data/x\0"),
        Ok(String::new())
    );
    assert_eq!(
        say(&mut store, 1, xs::XS_GET_PERMS, "data/x\0"),
        Ok("n1".to_string())
    );
    check(&store);
}

#[test]
fn a_guest_has_limits_and_others_don_t_feel_them() {
    let mut store = store_with(&[1, 2]);
    let mut made = store.usage(DomId(1)).nodes;
    while say(
        &mut store,
        1,
        xs::XS_WRITE,
        &format!("data/d{}/{made}\0", made / 100),
    )
    .is_ok()
    {
        made = store.usage(DomId(1)).nodes;
    }
    assert_eq!(store.usage(DomId(1)).nodes, limits::NODES);
    assert_eq!(
        say(&mut store, 1, xs::XS_MKDIR, "data/more\0"),
        error("ENOSPC")
    );
    assert_eq!(say(&mut store, 2, xs::XS_MKDIR, "data/more\0"), ok());
    for number in 1..8 {
        say(&mut store, 1, xs::XS_RM, &format!("data/d{number}\0")).unwrap();
    }
    let big = format!("data/d8/x\0{}", "x".repeat(limits::NODE_BYTES));
    assert_eq!(say(&mut store, 1, xs::XS_WRITE, &big), error("ENOSPC"));
    let large = "x".repeat(1500);
    let mut result = ok();
    for number in 0..limits::NODES {
        let path = format!("data/large{}/{number}", number / 100);
        result = say(&mut store, 1, xs::XS_WRITE, &format!("{path}\0{large}"));
        if result.is_err() {
            break;
        }
    }
    assert_eq!(result, error("ENOMEM"));
    assert!(store.usage(DomId(1)).bytes <= limits::MEMORY);
    // A path of many nodes is made completely or not at all.
    let deep = format!("data/{}\0", "a/".repeat(900).trim_end_matches('/'));
    assert_eq!(say(&mut store, 1, xs::XS_MKDIR, &deep), error("ENOSPC"));
    assert_eq!(say(&mut store, 1, xs::XS_READ, "data/a\0"), error("ENOENT"));
    check(&store);
    store.release(DomId(1));
    assert_eq!(store.usage(DomId(1)), Usage::default());
}

#[test]
fn many_greedy_guests_leave_the_control_domain_its_memory() {
    let doms: Vec<u16> = (1..60).collect();
    let mut store = store_with(&doms);
    let large = "x".repeat(1500);
    for dom in doms {
        for number in 0..limits::NODES {
            let write = format!("data/{}/{number}\0{large}", number / 100);
            if say(&mut store, dom, xs::XS_WRITE, &write).is_err() {
                break;
            }
        }
        assert!(store.usage(DomId(dom)).bytes >= limits::LITTLE - 2 * limits::NODE_BYTES);
    }
    assert!(store.ledger.of_guests() > limits::ALL_MEMORY);
    assert!(store.ledger.of_guests() < limits::ALL_MEMORY + 60 * limits::LITTLE);
    check(&store);
    // A domain that is released makes room for others.
    for dom in 1..40 {
        store.release(DomId(dom));
    }
    assert_eq!(
        say(&mut store, 59, xs::XS_WRITE, &format!("data/more\0{large}")),
        ok()
    );
}

#[test]
fn a_long_list_comes_in_parts() {
    let mut store = store_with(&[1]);
    for number in 0..600 {
        store
            .write(&format!("/local/domain/1/many/name-{number}"), "")
            .unwrap();
    }
    store
        .set_perms("/local/domain/1/many", Perms::readable_by(DomId(1)))
        .unwrap();
    assert_eq!(
        say(&mut store, 1, xs::XS_DIRECTORY, "many\0"),
        error("E2BIG")
    );
    let (mut offset, mut names) = (0, Vec::new());
    loop {
        let part = ask(
            &mut store,
            1,
            0,
            xs::XS_DIRECTORY_PART,
            format!("many\0{offset}\0").as_bytes(),
        )
        .unwrap();
        let start = part.iter().position(|&byte| byte == 0).unwrap() + 1;
        let (list, last) = match part[start..].strip_suffix(&[0, 0]) {
            Some(_) => (&part[start..part.len() - 1], true),
            None => (&part[start..], false),
        };
        offset += list.len();
        names.extend(
            list.strip_suffix(&[0])
                .unwrap()
                .split(|&byte| byte == 0)
                .map(<[u8]>::to_vec),
        );
        if last {
            break;
        }
    }
    assert_eq!(names.len(), 600);
}

#[test]
fn other_requests() {
    let mut store = store_with(&[1]);
    assert_eq!(
        say(&mut store, 1, xs::XS_GET_DOMAIN_PATH, "7\0"),
        Ok("/local/domain/7".to_string())
    );
    for (dom, known) in [("0\0", "T"), ("1\0", "T"), ("2\0", "F")] {
        assert_eq!(
            say(&mut store, 1, xs::XS_IS_DOMAIN_INTRODUCED, dom),
            Ok(known.to_string())
        );
    }
    for request in [
        xs::XS_CONTROL,
        xs::XS_INTRODUCE,
        xs::XS_RELEASE,
        xs::XS_RESUME,
        xs::XS_SET_TARGET,
    ] {
        assert_eq!(say(&mut store, 1, request, "1\0"), error("EACCES"));
    }
    for request in [xs::XS_WATCH_EVENT, xs::XS_ERROR, 20, 23, 0xffff, u32::MAX] {
        assert_eq!(say(&mut store, 1, request, "1\0"), error("ENOSYS"));
    }
}
