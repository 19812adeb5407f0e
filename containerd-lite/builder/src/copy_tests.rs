use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use super::*;

/// A source and a root, each a directory with files: `path=text`, `path/` and `path->target`.
struct Lab {
    _dirs: [tempfile::TempDir; 2],
    source: Source,
    root: Root,
    at: std::path::PathBuf,
}

fn lab(source: &str, root: &str) -> Lab {
    let dirs = [source, root].map(|files| {
        let dir = tempfile::tempdir().unwrap();
        for text in files.split_whitespace() {
            let at = |path: &str| {
                let path = dir.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                path
            };
            if let Some((path, target)) = text.split_once("->") {
                symlink(target, at(path)).unwrap();
            } else if let Some((path, text)) = text.split_once('=') {
                fs::write(at(path), text).unwrap();
            } else {
                fs::create_dir_all(at(text)).unwrap();
            }
        }
        dir
    });
    Lab {
        source: Source::Tree(kernel::path::open_dir(dirs[0].path()).unwrap()),
        root: Root::new(kernel::path::open_dir(dirs[1].path()).unwrap()),
        at: dirs[1].path().to_owned(),
        _dirs: dirs,
    }
}

fn to(path: &str) -> Destination<'_> {
    Destination {
        path: path.trim_end_matches('/'),
        is_directory: path.ends_with('/'),
        parents: false,
    }
}

impl Lab {
    fn copy_with(&self, typed: &str, to: Destination<'_>, rules: &Rules) -> Result<(), String> {
        for selected in select(&self.source, typed, to, self.root.is_dir(to.path))? {
            write(&self.root, &self.source, &selected, rules)?;
        }
        Ok(())
    }

    fn copy(&self, typed: &str, path: &str) -> Result<(), String> {
        self.copy_with(typed, to(path), &Rules::default())
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.at.join(path)).unwrap_or_else(|err| format!("{path}: {err}"))
    }
}

#[test]
fn a_file_goes_where_the_destination_says() {
    let lab = lab("f=1 g=2", "dir/ old=0");
    lab.copy("f", "/new").unwrap();
    lab.copy("f", "/dir").unwrap();
    lab.copy("g", "/deep/down/").unwrap();
    lab.copy("/g", "/old").unwrap();
    lab.copy("../../g", "/up").unwrap();
    for (path, want) in [
        ("new", "1"),
        ("dir/f", "1"),
        ("deep/down/g", "2"),
        ("old", "2"),
        ("up", "2"),
    ] {
        assert_eq!(lab.text(path), want, "{path}");
    }
}

#[test]
fn a_directory_brings_its_contents() {
    let lab = lab("d/a=1 d/e/b=2 d/l->a", "have/a=0 have/other=3");
    lab.copy("d", "/have").unwrap();
    lab.copy("d/", "/new/").unwrap();
    lab.copy(".", "/all").unwrap();
    for (path, want) in [
        ("have/a", "1"),
        ("have/other", "3"),
        ("have/e/b", "2"),
        ("new/a", "1"),
        ("all/d/e/b", "2"),
    ] {
        assert_eq!(lab.text(path), want, "{path}");
    }
    assert_eq!(fs::read_link(lab.at.join("new/l")).unwrap(), Path::new("a"));
}

#[test]
fn wildcards_and_exclusions() {
    let lab = lab("a.txt=1 b.txt=2 c.md=3 d/x.o=4 d/y.c=5", "");
    lab.copy("*.txt", "/t/").unwrap();
    let rules = Rules {
        exclude: vec![Pattern::parse("**/*.o").unwrap()],
        ..Rules::default()
    };
    lab.copy_with("d", to("/d"), &rules).unwrap();
    assert_eq!(
        (lab.text("t/a.txt"), lab.text("t/b.txt")),
        ("1".to_owned(), "2".to_owned())
    );
    assert!(!lab.at.join("t/c.md").exists() && !lab.at.join("d/x.o").exists());
    assert_eq!(lab.text("d/y.c"), "5");
    assert!(lab.copy("*.none", "/t/").unwrap_err().contains("not found"));
    assert!(lab.copy("none", "/t/").unwrap_err().contains("not found"));
}

#[test]
fn parents_keep_the_path() {
    let lab = lab("x/y/f=1", "");
    let to = Destination {
        path: "/out",
        is_directory: true,
        parents: true,
    };
    lab.copy_with("x/y/f", to, &Rules::default()).unwrap();
    lab.copy_with("x/./y/f", to, &Rules::default()).unwrap();
    assert_eq!(
        (lab.text("out/x/y/f"), lab.text("out/y/f")),
        ("1".to_owned(), "1".to_owned())
    );
}

#[test]
fn kinds_never_replace_each_other() {
    let lab = lab("f=1 d/x/y=2", "dir/f/ d2/x->/elsewhere");
    assert!(
        lab.copy("f", "/dir/")
            .unwrap_err()
            .contains("replace a directory")
    );
    assert!(lab.copy("d", "/d2").unwrap_err().contains("non-directory"));
}

#[test]
fn links_in_the_image_lead_nowhere_outside() {
    let outside = tempfile::tempdir().unwrap();
    let lab = lab("f=evil", "real/");
    symlink(outside.path(), lab.at.join("out")).unwrap();
    symlink("/real", lab.at.join("in")).unwrap();
    lab.copy("f", "/in/f").unwrap();
    assert_eq!(lab.text("real/f"), "evil");
    // The link's target is taken below the root, and made there.
    let _refused_or_made_inside = lab.copy("f", "/out/f");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn attributes_are_those_that_were_asked_for() {
    let lab = lab("f=1 d/g=2", "");
    let rules = Rules {
        owner: Some((1000, 1001)),
        mode: Some(Mode::parse("u=rwX,go=").unwrap()),
        time_s: 315_532_800,
        ..Rules::default()
    };
    lab.copy_with("f", to("/n/f"), &rules).unwrap();
    lab.copy_with("d", to("/d"), &rules).unwrap();
    for (path, mode) in [("n/f", 0o600), ("d/g", 0o600), ("d", 0o700)] {
        let about = fs::metadata(lab.at.join(path)).unwrap();
        assert_eq!((about.uid(), about.gid()), (1000, 1001), "{path}");
        assert_eq!(about.permissions().mode() & 0o7777, mode, "{path}");
        assert_eq!(about.mtime(), 315_532_800, "{path}");
    }
    assert_eq!(fs::metadata(lab.at.join("n")).unwrap().uid(), 1000);
}

#[test]
fn times_of_a_step_are_fixed() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("new"), "").unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    symlink("new", dir.path().join("l")).unwrap();
    let old = File::create(dir.path().join("d/old")).unwrap();
    set_time(&old, 1000).unwrap();
    fix_times(dir.path(), 2000, 315_532_800).unwrap();
    let mtime = |path: &str| fs::symlink_metadata(dir.path().join(path)).unwrap().mtime();
    assert_eq!(
        (mtime("new"), mtime("l"), mtime("d")),
        (315_532_800, 315_532_800, 315_532_800)
    );
    assert_eq!(mtime("d/old"), 1000);
}

#[test]
fn text_of_a_here_document_becomes_a_file() {
    let lab = lab("", "d/");
    write_inline(&lab.root, "hi\n", "/d/f", &Rules::default()).unwrap();
    assert_eq!(lab.text("d/f"), "hi\n");
    assert!(write_inline(&lab.root, "x", "/d", &Rules::default()).is_err());
}
