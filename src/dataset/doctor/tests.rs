//! Datasets with one fault each.

use super::*;
use crate::dataset::Format;

const BOX: Aabb = Aabb {
    low: [-1.5; 3],
    high: [1.5; 3],
};

fn view(i: u16, eye: [f32; 3], target: [f32; 3]) -> Frame {
    Frame {
        name: format!("v{i}"),
        image_path: format!("v{i}.png").into(),
        orientation: super::super::Orientation::NoTransforms,
        camera: Camera::look_at(eye, target, [0.0, 0.0, 1.0], 0.7, 8, 8),
        near_far: None,
        mask: None,
        depth: None,
    }
}

/// Return ten views around `at`, modified by `change`.
fn around(at: [f32; 3], change: impl FnOnce(&mut Vec<Frame>)) -> Dataset {
    let place = |i: u16| {
        let angle = f32::from(i) / 10.0 * std::f32::consts::TAU;
        let eye = [
            at[0] + 4.0 * angle.cos(),
            at[1] + 4.0 * angle.sin(),
            at[2] + 1.0,
        ];
        view(i, eye, at)
    };
    let mut train: Vec<Frame> = (0..10).map(place).collect();
    change(&mut train);
    Dataset {
        name: "d".to_owned(),
        train,
        test: vec![view(99, [4.0, 4.0, 1.0], at)],
        ..Dataset::new(std::path::Path::new("."), Format::Transforms)
    }
}

/// Assert that exactly one problem is found, with this severity and these words.
#[track_caller]
fn finds(dataset: &Dataset, severity: Severity, words: &[&str]) {
    let problems = check(dataset, &BOX, 1, &|_| [0.0, 1e10]);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert_eq!(problems[0].severity, severity, "{problems:#?}");
    for word in words {
        assert!(problems[0].message.contains(word), "{word}: {problems:#?}");
    }
}

fn turn_round(view: &mut Frame) {
    for row in &mut view.camera.world_from_camera {
        row[0] = -row[0];
        row[2] = -row[2];
    }
}

#[test]
fn a_good_set_has_no_problems_and_a_focus() {
    let dataset = around([0.0; 3], |_| {});
    assert_eq!(check(&dataset, &BOX, 1, &|_| [2.0, 6.0]), []);
    let placement = camera_placement(&dataset.train, &BOX);
    let focus = placement.focus.unwrap();
    assert!(focus.iter().all(|v| v.abs() < 1e-5), "{focus:?}");
    let distance = 17.0_f64.sqrt();
    assert!(
        placement
            .distance
            .iter()
            .all(|d| (d - distance).abs() < 1e-5)
    );
    assert_eq!(placement.inside, 0);
}

#[test]
fn cameras_that_look_at_no_one_point_have_no_focus() {
    let inside_out = around([0.0; 3], |views| views.iter_mut().for_each(turn_round));
    assert_eq!(camera_placement(&inside_out.train, &BOX).focus, None);
    // The poses alone do not tell whether they follow another convention or are right.
    let told = [
        "negated",
        "if the cameras stand inside the scene",
        "scene.aabb_scale=16",
    ];
    let problems = check(&inside_out, &BOX, 1, &|_| [0.0, 1e10]);
    let all = problems.iter().map(|p| p.message.as_str());
    let all = all.collect::<Vec<_>>().join("\n");
    assert!(told.iter().all(|word| all.contains(word)), "{all}");
    // There is no advice if the box is already the suggested one, but there is for a box of that size elsewhere.
    let framing = inside_out.suggested_inside_out().unwrap();
    let half = DVec3::splat(0.5 * f64::from(framing.aabb_scale) / framing.scale);
    let advises = |center: DVec3| {
        let [low, high] = [center - half, center + half].map(|p| p.to_array());
        let problems = check(&inside_out, &Aabb { low, high }, 16, &|_| [0.0, 1e10]);
        let mut all = problems.iter();
        all.any(|p| p.message.contains("if the cameras stand inside the scene"))
    };
    let center = DVec3::from(framing.center());
    assert!(!advises(center) && advises(center + half));
    let most = around([0.0; 3], |views| {
        views
            .iter_mut()
            .skip(3)
            .for_each(|view| view.camera.principal[0] = -1e4);
    });
    finds(
        &most,
        Severity::Error,
        &["looks past", "and so do 6 others", "try --set"],
    );
    let mut alone = around([0.0; 3], |_| {});
    alone.train.truncate(1);
    finds(
        &alone,
        Severity::Warning,
        &["v0", "only training view", "parallax"],
    );
}

#[test]
fn cameras_against_each_other() {
    let dataset = around([0.0; 3], |views| views[3].image_path = "v2.png".into());
    finds(
        &dataset,
        Severity::Warning,
        &["v3", "repeats the image of view v2"],
    );
    let dataset = around([0.0; 3], |views| views[3].image_path = "v99.png".into());
    finds(
        &dataset,
        Severity::Warning,
        &["v99", "held out", "of view v3"],
    );
    let dataset = around([0.0; 3], |views| views[3].camera = views[2].camera);
    finds(
        &dataset,
        Severity::Warning,
        &["v3", "repeats the pose of view v2"],
    );
    let dataset = around([0.0; 3], |views| {
        let camera = views[0].camera;
        for view in views {
            view.camera = camera;
        }
    });
    finds(&dataset, Severity::Error, &["all 10 cameras", "parallax"]);
    let dataset = around([0.0; 3], |views| turn_round(&mut views[4]));
    let problems = check(&dataset, &BOX, 1, &|_| [0.0, 1e10]);
    assert!(problems.iter().all(|p| p.severity == Severity::Warning));
    assert!(
        problems
            .iter()
            .any(|p| p.message.contains("v4") && p.message.contains("past"))
    );
    assert!(
        problems
            .iter()
            .any(|p| p.message.contains("v4") && p.message.contains("away"))
    );
}

#[test]
fn cameras_against_the_box() {
    let far_off = around([40.0, 0.0, 0.0], |_| {});
    let problems = check(&far_off, &BOX, 1, &|_| [0.0, 1e10]);
    let outside = |p: &Problem| {
        p.message.contains("lies outside") && p.message.contains("scene.offset=[-12.")
    };
    assert!(problems.iter().any(outside), "{problems:#?}");
    let all_round = around([0.0; 3], |views| views.iter_mut().for_each(turn_round));
    let problems = check(&all_round, &BOX, 1, &|_| [0.0, 1e10]);
    assert_eq!(problems[0].severity, Severity::Error);
    assert!(problems[0].message.contains("OpenCV"), "{problems:#?}");
    // The rays end before the box.
    let short = check(&around([0.0; 3], |_| {}), &BOX, 1, &|_| [0.0, 1.0]);
    assert_eq!(short[0].severity, Severity::Error);
    assert!(short[0].message.contains("no camera sees"), "{short:#?}");
}

#[test]
fn one_camera_gone_astray_does_not_move_the_focus() {
    let dataset = around([0.0; 3], |views| {
        views[5].camera.world_from_camera[0][3] = 1e3;
    });
    let problems = check(&dataset, &BOX, 1, &|_| [0.0, 1e10]);
    let told = |words: &[&str]| {
        let is_it = |p: &Problem| words.iter().all(|w| p.message.contains(w));
        problems.iter().any(is_it)
    };
    assert!(told(&["v5", "times farther"]), "{problems:#?}");
    assert!(!told(&["scene.scale="]), "{problems:#?}");
}

#[test]
fn inverted_poses_are_told_in_place_of_what_follows_from_them() {
    let invert = |views: &mut Vec<Frame>| {
        for view in views {
            let rows = view.camera.world_from_camera;
            let place = |i: usize| -(0..3).map(|r| rows[r][i] * rows[r][3]).sum::<f64>();
            view.camera.world_from_camera =
                std::array::from_fn(|i| [rows[0][i], rows[1][i], rows[2][i], place(i)]);
        }
    };
    // Orbits around the origin invert to cameras at one point.
    let dataset = around([0.0; 3], invert);
    finds(
        &dataset,
        Severity::Error,
        &[
            "world-to-camera",
            "numpy.linalg.inv",
            "(0.00, 0.00, 0.00)",
            "4.12 away",
        ],
    );
    let dataset = around([3.0, 1.0, 0.0], invert);
    let problems = check(&dataset, &BOX, 1, &|_| [0.0, 1e10]);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(
        problems[0].message.contains("(3.00, 1.00, 0.00)"),
        "{problems:#?}"
    );
}

#[test]
fn rays_parallel_to_a_side_meet_the_box_or_not() {
    let along = |y: f64| BOX.meets(DVec3::new(-5.0, y, 0.0), DVec3::X, [0.0, 100.0]);
    assert!(along(0.0) && along(1.49) && !along(1.51));
    assert!(!BOX.meets(DVec3::new(5.0, 0.0, 0.0), DVec3::X, [0.0, 100.0]));
    assert!(BOX.meets(DVec3::ZERO, DVec3::X, [0.0, 0.1]));
}
