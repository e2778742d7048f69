//! Images for the viewer, which stay on the device, compared with frames of the same views.

use std::sync::Arc;

use kiln::camera::Camera;
use kiln::config::{Background, Config, SceneHints};
use kiln::gpu::{AdapterClass, Buffer, Gpu};
use kiln::render::{Channel, RenderMode, Rendered, RenderedFrame, Renderer, Shading, turbo};

use crate::reference::random::Pcg;
use crate::support::on_device;

const SIDE: u32 = 16;
const BACKGROUND: [f32; 3] = [0.2, 0.4, 0.8];

/// Return a renderer with random parameters, and its occupancy bits, all of which are set.
pub fn renderer(gpu: &Arc<Gpu>, preset: &str, overrides: &[&str]) -> (Renderer, Buffer) {
    let mut overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    if Config::preset(preset, &[]).unwrap().occupancy.is_some() {
        overrides.push(format!("occupancy.resolution={SIDE}"));
    }
    let config = Config::preset(preset, &overrides).unwrap();
    let config = config.resolve(SceneHints::default(), AdapterClass::Software);
    let words = (SIDE.pow(3) / 32) as usize;
    let bits = gpu.buffer_with("bits", &vec![u32::MAX; words]).unwrap();
    let renderer = Renderer::new(gpu, &config, config.occupancy.as_ref().map(|_| &bits)).unwrap();
    let mut pcg = Pcg::new(5);
    for parameters in &renderer.parameters {
        let tables = parameters.tables.iter();
        for buffer in tables.chain(std::iter::once(&parameters.weights.values)) {
            let n = buffer.bytes() as usize / 4;
            let values: Vec<f32> = (0..n).map(|_| pcg.uniform(-0.9, 0.9) as f32).collect();
            gpu.write(buffer, 0, &values);
        }
        if let Some(map) = &parameters.cells {
            let map_of: Vec<u32> = (0..map.bytes() as u32 / 4).collect();
            gpu.write(map, 0, &map_of);
        }
    }
    (renderer, bits)
}

/// Return the viewer's image of `show` through `camera`, in RGBA8.
fn picture(gpu: &Gpu, renderer: &mut Renderer, camera: &Camera, show: RenderMode) -> Vec<u8> {
    let shading = Shading {
        show,
        background: Background::Fixed(BACKGROUND),
        depth_range: [1.0, 4.0],
        max_ray_samples: 32.0,
        up: [0.0, 0.0, 1.0],
    };
    let mut job = renderer.begin_picture(camera, None, &shading).unwrap();
    let rendered = loop {
        if let Some(rendered) = renderer.advance(&mut job).unwrap() {
            break rendered;
        }
        gpu.wait().unwrap();
    };
    let Rendered::Picture(picture) = rendered else {
        panic!("a frame instead of a picture");
    };
    assert_eq!(picture.size, [camera.width, camera.height]);
    picture.read(gpu).unwrap()
}

/// Return the maximum difference between the colours of RGBA8 and RGB8 pixels.
fn difference(rgba: &[u8], rgb: &[u8]) -> u8 {
    let pairs = rgba.chunks_exact(4).zip(rgb.chunks_exact(3));
    let all = pairs.flat_map(|(a, b)| (0..3).map(|c| a[c].abs_diff(b[c])));
    all.max().unwrap()
}

/// Return the depth display of a frame: the colours of turbo from the far end on, linear in the logarithm of distance.
fn depth_of(frame: &RenderedFrame) -> Vec<u8> {
    let pixel = |(&d, &o): (&f32, &f32)| {
        let t = (d / o.max(1e-6)).max(1e-6).ln() / 4.0_f32.ln();
        let color = turbo(1.0 - t.clamp(0.0, 1.0));
        let over = |c: usize| color[c] * o + (1.0 - o) * BACKGROUND[c];
        [0, 1, 2].map(|c| (over(c) * 255.0).round() as u8)
    };
    frame
        .depth
        .iter()
        .zip(&frame.opacity)
        .flat_map(pixel)
        .collect()
}

fn check(gpu: &Arc<Gpu>, preset: &str, overrides: &[&str]) {
    let (mut renderer, _bits) = renderer(gpu, preset, overrides);
    // The width is no multiple of 64, so rows are padded, and tiles end within rows.
    let camera = Camera::look_at([2.2, 0.3, 0.8], [0.0; 3], [0.0, 0.0, 1.0], 0.9, 75, 50);
    let frame = renderer.render(&camera, None, false).unwrap();
    let seen = frame.opacity.iter().filter(|&&o| o > 0.05).count();
    assert!(seen > 500 && frame.samples.iter().any(|&n| n > 3.0));
    let mut of = |show| picture(gpu, &mut renderer, &camera, show);
    let colors = of(RenderMode::Color);
    assert!(colors.chunks_exact(4).all(|p| p[3] == 255));
    assert!(difference(&colors, &frame.pixels(Channel::Rgb, BACKGROUND, [0.0, 1.0])) <= 1);
    let opacity = frame.pixels(Channel::Opacity, BACKGROUND, [0.0, 1.0]);
    assert!(difference(&of(RenderMode::Opacity), &opacity) <= 1);
    assert!(difference(&of(RenderMode::Depth), &depth_of(&frame)) <= 1);
    // Pixels with more samples are lighter.
    let costs = of(RenderMode::Samples);
    let light = |i: usize| (0..3).map(|c| u32::from(costs[4 * i + c])).sum::<u32>();
    let n = frame.samples.len();
    let most = (0..n).max_by(|a, b| frame.samples[*a].total_cmp(&frame.samples[*b]));
    let (most, none) = (most.unwrap(), frame.samples.iter().position(|&n| n == 0.0));
    assert!(light(most) > 100 && none.is_none_or(|i| light(i) < 30));
    let with_normals = renderer.render(&camera, None, true).unwrap();
    let expected = with_normals.pixels(Channel::Normal, BACKGROUND, [0.0, 1.0]);
    let normals = picture(gpu, &mut renderer, &camera, RenderMode::Normals);
    // A pixel without a slope has a normal that rounding decides.
    let pairs = normals.chunks_exact(4).zip(expected.chunks_exact(3));
    let differing = pairs.filter(|(a, b)| (0..3).any(|c| a[c].abs_diff(b[c]) > 2));
    assert!(differing.count() < 4);
    for (normal, opacity) in with_normals.normal.chunks_exact(3).zip(&frame.opacity) {
        let length = normal.iter().map(|n| n * n).sum::<f32>().sqrt();
        assert!((length - opacity).abs() < 2e-3, "{length} {opacity}");
    }
    // Images for the viewer share the renderer's buffers, and do not affect frames.
    let again = renderer.render(&camera, None, false).unwrap();
    let pairs = again.color.iter().zip(&frame.color);
    let most = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(most < 1e-4, "colours differ by {most}");
}

#[test]
fn a_picture_equals_a_frame() {
    on_device(|gpu| {
        check(
            gpu,
            "ngp-small",
            &["passes.field.position_encoding.hash_grid.log2_hashmap_size=8"],
        );
        check(gpu, "kilonerf-small", &["passes.field.cells.longest=3"]);
    });
}

#[test]
fn networks_have_distinct_colours() {
    on_device(|gpu| {
        let (mut renderer, _bits) =
            renderer(gpu, "kilonerf-small", &["passes.field.cells.longest=2"]);
        let camera = Camera::look_at([2.2, 0.3, 0.8], [0.0; 3], [0.0, 0.0, 1.0], 0.9, 60, 60);
        assert!(renderer.can_show(RenderMode::Cells));
        let cells = picture(gpu, &mut renderer, &camera, RenderMode::Cells);
        let colors = picture(gpu, &mut renderer, &camera, RenderMode::Color);
        let background = |p: &[u8]| (0..3).all(|c| p[c] == (BACKGROUND[c] * 255.0).round() as u8);
        // Empty pixels show the background in both.
        let both = cells.chunks_exact(4).zip(colors.chunks_exact(4));
        assert!(both.clone().all(|(a, b)| background(a) == background(b)));
        // The networks left and right of the middle differ.
        let at = |x: usize| &cells[4 * (30 * 60 + x)..][..3];
        let hue = |p: &[u8]| (0..3).max_by_key(|&c| p[c]);
        assert!(hue(at(20)) != hue(at(40)) || at(20)[0].abs_diff(at(40)[0]) > 20);
    });
}

#[test]
fn occupied_cells_are_shown_in_their_places() {
    on_device(|gpu| {
        let (mut renderer, bits) = renderer(gpu, "ngp-small", &["scene.aabb_scale=1"]);
        // Set one cell, in the middle of the box's upper half.
        let mut words = vec![0_u32; (SIDE.pow(3) / 32) as usize];
        let (x, y, z) = (8, 8, 12);
        let index = (z * SIDE + y) * SIDE + x;
        words[(index / 32) as usize] = 1 << (index % 32);
        gpu.write(&bits, 0, &words);
        let scale = renderer.config().scene.scale.unwrap() as f32;
        let world = |i: u32| (i as f32 / SIDE as f32 - 0.5) / scale;
        let camera = Camera::look_at([2.0, 1.5, 2.5], [0.0; 3], [0.0, 0.0, 1.0], 1.2, 90, 70);
        let pixels = picture(gpu, &mut renderer, &camera, RenderMode::Occupancy);
        let background = BACKGROUND.map(|c| (c * 255.0).round() as u8);
        let is_set = |i: usize| pixels[4 * i..4 * i + 3] != background;
        // The cell is shown by exactly the rays that hit it, except at its border.
        let (mut met, mut wrong) = (0, 0);
        for row in 0..70_u32 {
            for column in 0..90_u32 {
                let (o, d) = camera.ray(column as f32 + 0.5, row as f32 + 0.5);
                let meets = |grow: f64| {
                    let (mut near, mut far) = (0.0_f64, f64::MAX);
                    for (axis, i) in [x, y, z].into_iter().enumerate() {
                        let ends = [f64::from(world(i)) - grow, f64::from(world(i + 1)) + grow];
                        let t = ends.map(|e| (e - o[axis]) / d[axis]);
                        near = near.max(t[0].min(t[1]));
                        far = far.min(t[0].max(t[1]));
                    }
                    near < far
                };
                let shown = is_set((row * 90 + column) as usize);
                met += u32::from(meets(0.0));
                wrong += u32::from(meets(-1e-3) && !shown) + u32::from(!meets(1e-3) && shown);
            }
        }
        assert!(met > 20, "{met} rays meet the cell");
        assert_eq!(wrong, 0);
    });
}
