//! Files of ratings: every layout, and refused files.

use crate::problems::RATINGS;
use crate::rig::{failure, slices};
use wgpu_optim::optim::Value;
use wgpu_optim::tools::objectives::problems;
use wgpu_optim::tools::objectives::problems::{Layout, RatingTable};

const JESTER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/jester.csv");

fn read(text: &[u8], skip_bad: bool) -> wgpu_optim::Result<RatingTable> {
    RatingTable::read(text, "it", Layout::Auto, skip_bad)
}

fn ratings(table: &RatingTable) -> Vec<([u32; 2], f32)> {
    (0..table.len()).map(|which| table.rating(which)).collect()
}

#[test]
fn every_layout_is_read() {
    let expected = [([0, 0], 4.0), ([0, 1], 3.5), ([1, 0], 1.0)];
    for text in [
        "7\t30\t4\t881250949\n9\t30\t1\t881250950\n7\t4\t3.5\t881250951\n",
        "7::30::4::881250949\n9::30::1::881250950\n7::4::3.5::881250951",
        "userId,movieId,rating,timestamp\r\n7,30,4.0,1\r\n9,30,1.0,2\r\n7,4,3.5,3\r\n",
        "\u{feff}user,item,rating\n\nann, x ,4\nbob,x,1e0\n\nann,y,3.5\n\n",
        "7,30,4\n9,30,1\n7,4,3.5\n",
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n7\t30\t4\t1\n9\t30\t1\t2\n7\t4\t3.5\t3\n",
    ] {
        let table = read(text.as_bytes(), false).expect("read");
        assert_eq!((table.users(), table.items(), table.skipped()), (2, 2, 0), "{text}");
        assert_eq!(ratings(&table), expected, "{text}");
    }
    let dense = read(b"3,-7.82,99,8.79,0\n0,99,99,99,99\n2, 99,1,99,-10.0\n", false).expect("read");
    assert_eq!((dense.users(), dense.items()), (3, 4));
    let expected = [([0, 0], -7.82), ([0, 2], 8.79), ([0, 3], 0.0), ([2, 1], 1.0), ([2, 3], -10.0)];
    assert_eq!(ratings(&dense), expected);
    let narrow = RatingTable::read(&b"2,1,-1\n"[..], "it", Layout::Dense, false).expect("read");
    assert_eq!(ratings(&narrow), [([0, 0], 1.0), ([0, 1], -1.0)]);
}

#[test]
fn names_have_numbers_in_the_order_in_which_they_came() {
    let name = |i: usize| format!("{:x}", i * 2_654_435_761 % 65_537);
    let lines = (0..6000).map(|i| format!("u{},{},{}\n", name(i % 3000), name(i), i % 7));
    let table = read(lines.collect::<String>().as_bytes(), false).expect("read");
    assert_eq!((table.users(), table.items(), table.len()), (3000, 6000, 6000));
    for user in 0..3000 {
        let expected = [user, user + 3000].map(|i| ([user as u32, i as u32], (i % 7) as f32));
        assert_eq!([2 * user, 2 * user + 1].map(|which| table.rating(which)), expected);
    }
}

#[test]
fn bad_lines_are_named() {
    let says = |text: &[u8], what: &str| {
        let error = failure(read(text, false));
        assert!(error.starts_with("it: ") && error.contains(what), "{error}");
    };
    says(b"", "no ratings (0 bad lines)");
    says(b"\n\n", "no ratings");
    says(b"user,item,rating\n", "no ratings");
    says(b"1 2 3\n", "line 1: has no tab, comma or `::`");
    says(b"1\t2\t3\n1\t3\n", "line 2: has 2 fields, expected user, item, rating");
    says(b"1\t2\t3\t4\t5\n", "line 1: has 5 fields");
    says(b"1,2,3\n\n4,5,good\n", "line 3: the rating is `good`, expected a number");
    says(b"1,2,good\n", "line 1: the rating is `good`");
    says(b"1,2,nan\n", "the rating is `nan`");
    says(b"1,2,inf\n", "the rating is `inf`");
    says(b"1,2,1e30\n", "magnitude 1000000 at most");
    says(b"1,,3\n", "line 1: the item has 0 bytes");
    says(b"1,2,3\n2,2,3\n1,3,1\n1,2,5\n", "line 4: its user has rated this item before, on line 1");
    says(b"1,2,3\n\xff\xfe,2,3\n", "line 2: not UTF-8");
    says(b"2,1,2,3,99\n", "line 1: has 3 ratings that are not 99, its first field says `2`");
    says(b"4,1,2,3,4\n1,1,99,99\n", "line 2: has 4 fields, expected a count and 4 ratings");
    says(b"4,1,2,3,x\n", "the rating is `x`");
    says(&[b'1'; (1 << 20) + 5], "line 1: longer than 1048576 bytes");
    says(format!("1,{},3\n", "x".repeat(65)).as_bytes(), "the item has 65 bytes, expected 1 to 64");
    let missing = failure(RatingTable::open("no/such/file".as_ref(), Layout::Auto, true));
    assert!(missing.starts_with("no/such/file: "), "{missing}");
}

#[test]
fn bad_lines_are_skipped_on_request() {
    let table = read(b"1,2,3\n1,2\n2,2,x\n1,2,5\n3,2,4\n", true).expect("read");
    assert_eq!(ratings(&table), [([0, 0], 3.0), ([1, 0], 4.0)]);
    assert_eq!(table.skipped(), 3);
    assert!(failure(read(b"1,2,x\n", true)).contains("no ratings (1 bad lines)"));
    assert!(failure(read(&[b'1'; (1 << 20) + 5], true)).contains("longer than"));
}

/// The number of training ratings, and the loss of a model that is 0: the residual after the mean or the biases.
fn left(file: &str, settings: &[(&str, Value)]) -> (u32, f64) {
    let settings = settings.iter().cloned().chain([("rank", Value::Number(1.0))]);
    let problem = problems::find("ratings").expect("a problem").configure(Some(file.as_ref()), settings).expect("made");
    let nothing: Vec<Vec<f32>> = problem.tensors().iter().map(|t| vec![0.0; t.elements()]).collect();
    assert!(problem.test(&slices(&nothing)).expect("a test") > 0.0);
    let loss = problem.cpu_f32().expect("the fast form").loss(&slices(&nothing), 0).expect("a loss");
    (loss.rows, loss.loss)
}

fn shrunken(shrink: f64) -> [(&'static str, Value); 2] {
    [("biases", Value::Flag(true)), ("bias_shrink", Value::Number(shrink))]
}

#[test]
fn biases_leave_less() {
    let table = RatingTable::open(RATINGS.as_ref(), Layout::Auto, false).expect("read");
    assert_eq!((table.users(), table.items(), table.len()), (12, 15, 84));
    let (rows, spread) = left(RATINGS, &[]);
    assert_eq!(rows, 59);
    let (_, less) = left(RATINGS, &shrunken(0.5));
    assert!(less < 0.9 * spread && less > 0.01, "{less} of {spread}");
    assert!(left(JESTER, &[]).1 > 10.0);
}

/// If every user rates one item and every item is rated once, the biases with shrinkage s leave d·s / (2 + s) of a rating r = d.
#[test]
fn biases_minimise_the_shrunken_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ratings.csv");
    let lines: String = (0..40).map(|i| format!("{i},{i},{}\n", (i * 7) % 5)).collect();
    std::fs::write(&file, lines).expect("written");
    let file = file.to_str().expect("a path");
    let (_, spread) = left(file, &[]);
    for shrink in [0.5, 3.0] {
        let (_, less) = left(file, &shrunken(shrink));
        let expected = spread * (shrink / (2.0 + shrink)).powi(2);
        assert!((less - expected).abs() < 1e-5, "{less}, needs {expected}");
    }
}
