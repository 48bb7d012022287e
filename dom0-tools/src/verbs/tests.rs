//! Tests of the table's consistency, and of parsing command lines by it.

use super::*;

fn read(line: &str, front: Front) -> Result<Read, String> {
    let words: Vec<String> = line.split_whitespace().map(ToString::to_string).collect();
    Request::read(&words, front)
}

fn request(line: &str) -> Request {
    match read(line, Front::Shell) {
        Ok(Read::Run(request)) => request,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn each_name_and_option_is_there_once() {
    let mut names: Vec<&str> = Vec::new();
    for verb in VERBS {
        names.push(verb.name);
        names.extend(verb.aliases);
        assert!(
            !verb.counts().is_empty() && !verb.about.is_empty(),
            "{}",
            verb.name
        );
        let mut options: Vec<String> = Vec::new();
        for option in verb.options {
            options.push(option.name.to_string());
            options.extend(option.letter.map(String::from));
        }
        let count = options.len();
        options.sort();
        options.dedup();
        assert_eq!(options.len(), count, "options of {}", verb.name);
    }
    names.extend(table::XL_ONLY);
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn both_front_ends_offer_the_same() {
    // `help` lists the commands of each front end.
    for verb in VERBS.iter().filter(|verb| verb.op != Op::Help) {
        let line = [verb.name, &"x ".repeat(*verb.counts().start())].join(" ");
        let answers = [Front::Shell, Front::Cli].map(|front| read(&line, front));
        match (verb.place, answers) {
            (Place::Both, [shell, cli]) => assert!(shell.is_ok() && shell == cli, "{line}"),
            (Place::Only(Front::Shell, why), [Ok(_), Err(said)])
            | (Place::Only(Front::Cli, why), [Err(said), Ok(_)]) => {
                assert!(said.contains(why) && said.starts_with(verb.name), "{said}");
            }
            (_, answers) => panic!("{line}: {answers:?}"),
        }
    }
}

#[test]
fn usages_say_how_many_words() {
    for (name, counts) in [
        ("info", 0..=0),
        ("list", 0..=1),
        ("wait", 1..=2),
        ("vcpu-pin", 3..=3),
        ("create", 0..=MAX_WORDS),
        ("manifest", 1..=MAX_WORDS),
    ] {
        assert_eq!(find(name).map(Verb::counts), Ok(counts), "{name}");
    }
}

#[test]
fn help_comes_from_the_table() {
    for front in [Front::Shell, Front::Cli] {
        let all = list(front);
        for verb in VERBS {
            let has = all.lines().any(|line| {
                let mut words = line.split_whitespace();
                words.next() == Some(verb.name) && line.ends_with(verb.about)
            });
            let offered = !matches!(verb.place, Place::Only(only, _) if only != front);
            assert_eq!(has, offered, "{} in\n{all}", verb.name);
            let asked = read(&format!("help {}", verb.name), front);
            assert_eq!(asked, Ok(Read::Help(usage(verb))));
            assert_eq!(read(&format!("{} --help", verb.name), front), asked);
            for option in verb.options {
                assert!(
                    usage(verb).contains(&format!("--{}", option.name)),
                    "{}",
                    verb.name
                );
            }
        }
    }
}

#[test]
fn habits_of_xl() {
    assert_eq!(request("xl list -l web"), request("list --long web"));
    let create = request("create -cq -f web.cfg memory=64");
    assert!(create.has("console") && create.has("quiet") && !create.has("paused"));
    assert_eq!(
        configuration(&create),
        Ok(("web.cfg", Vec::from(["memory=64".to_string()])))
    );
    assert_eq!(
        configuration(&request("create web.cfg -c memory=64")).map(|it| it.0),
        Ok("web.cfg")
    );
    assert_eq!(
        request("wait web --timeout 5").number("timeout"),
        Ok(Some(5))
    );
    assert_eq!(
        request("wait web --timeout=5").number("timeout"),
        Ok(Some(5))
    );
    assert!(request("wait web --timeout=x").number("timeout").is_err());
    assert_eq!(request("cat -- -x").word(0), "-x");
    assert_eq!(request("halt"), request("poweroff"));
    assert!(one_or_all(&request("shutdown -a")).is_ok());
    assert!(one_or_all(&request("shutdown")).is_err());
    assert!(one_or_all(&request("shutdown -a web")).is_err());
}

#[test]
fn faults_are_sentences() {
    for (line, words) in [
        ("lsit", "did you mean `list`?"),
        ("frobnicate", "`help` lists them"),
        (
            "xl migrate web other",
            "a command of xl that is missing here",
        ),
        ("list --xml", "unknown option --xml; usage: list"),
        ("list -jx", "unknown option -jx"),
        ("list --json=yes", "--json takes no value"),
        ("create -f", "-f wants a value: FILE"),
        ("list a b", "usage: list [-j] [-l] [-v] [DOMAIN]"),
        ("bugreport", "bugreport: it reads Linux's"),
    ] {
        match read(line, Front::Shell) {
            Err(said) => assert!(said.contains(words), "{line}: {said}"),
            other => panic!("{line}: {other:?}"),
        }
    }
}

/// docs/xl.md lists xl's commands; a test in QEMU compares it with xl itself.
#[test]
fn every_command_of_xl_is_known() {
    let document = include_str!("../../../docs/xl.md");
    let section = document.split("\n## xl\n").nth(1).expect("the section");
    let section = section.split("\n## ").next().expect("its end");
    let rows = section.lines().filter(|line| line.starts_with("| "));
    let mut count = 0;
    for row in rows.skip(1) {
        let names = row.split('|').nth(1).expect("a cell");
        for name in names.trim().split(", ") {
            let here = VERBS.iter().any(|verb| verb.is_called(name));
            assert!(here != table::XL_ONLY.contains(&name), "{name}");
            count += 1;
        }
    }
    assert!(count > table::XL_ONLY.len(), "{count} commands");
}
