//! Every shader text that a configuration can produce is valid WGSL and translates to SPIR-V, MSL and HLSL. Structs that are
//! shared with Rust have the same layout.

#[path = "tools/browser.rs"]
mod browser;
#[path = "tools/mod.rs"]
mod tools;
#[path = "tools/webgpu.rs"]
mod webgpu;

use std::collections::{BTreeMap, BTreeSet};
use std::mem::offset_of;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use browser::browser;
use kiln::camera::{Camera, Lens};
use kiln::config::{
    Algorithm, Background, Config, Meta, PositionEncoding, ResolvedConfig, SceneHints,
};
use kiln::dataset::{Image, Mask};
use kiln::distillation::Teacher;
use kiln::encoding::HashGrid;
use kiln::encoding::hash_grid::GpuLevel;
use kiln::field::{Field, FieldParameters};
use kiln::gpu::{AdapterClass, Defines, Gpu, GpuError, GpuOptions, Shader, shader_names};
use kiln::images::{DepthSample, GpuCamera, ImageSet};
use kiln::occupancy::OccupancyGrid;
use kiln::render::{GpuCrop, GpuShade, NormalSource, RenderMode, Renderer, Shading};
use kiln::sampling::SceneBox;
use kiln::scene_frame::SceneFrame;
use kiln::step_state::StepState;
use kiln::train::Trainer;
use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};

fn validate(text: &str) -> (naga::Module, ModuleInfo) {
    let module = naga::front::wgsl::parse_str(text)
        .unwrap_or_else(|e| panic!("{}\n{text}", e.emit_to_string(text)));
    // Kernels may use only one capability beyond WebGPU: immediates, for the identity table of software adapters.
    let info = Validator::new(ValidationFlags::all(), Capabilities::IMMEDIATES)
        .validate(&module)
        .unwrap_or_else(|e| panic!("{}\n{text}", e.emit_to_string(text)));
    (module, info)
}

fn translate(entry: &str, module: &naga::Module, info: &ModuleInfo) -> Result<[usize; 3], String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let pipeline = spv::PipelineOptions {
        shader_stage: naga::ShaderStage::Compute,
        entry_point: entry.to_owned(),
    };
    let words = spv::write_vec(module, info, &spv::Options::default(), Some(&pipeline))
        .map_err(|e| text(&e))?;
    let options = msl::Options {
        lang_version: (2, 4),
        ..msl::Options::default()
    };
    let pipeline = msl::PipelineOptions {
        entry_point: Some((naga::ShaderStage::Compute, entry.to_owned())),
        ..msl::PipelineOptions::default()
    };
    let (metal, names) =
        msl::write_string(module, info, &options, &pipeline).map_err(|e| text(&e))?;
    names
        .entry_point_names
        .into_iter()
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| text(&e))?;
    let immediates_target = Some(hlsl::BindTarget {
        space: 9,
        ..hlsl::BindTarget::default()
    });
    let options = hlsl::Options {
        immediates_target,
        ..hlsl::Options::default()
    };
    let pipeline = hlsl::PipelineOptions {
        entry_point: Some((naga::ShaderStage::Compute, entry.to_owned())),
    };
    let mut direct_x = String::new();
    let names = hlsl::Writer::new(&mut direct_x, &options, &pipeline)
        .write(module, info, None)
        .map_err(|e| text(&e))?;
    names
        .entry_point_names
        .into_iter()
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| text(&e))?;
    Ok([words.len(), metal.len(), direct_x.len()])
}

/// Return configurations that together reach every branch of every shader.
fn configs() -> Vec<Config> {
    let sets: [&[&str]; 7] = [
        &[],
        &[
            "scene.aabb_scale=4",
            "scene.linear=true",
            "training.micro_batches=2",
            "training.near_start=1.0",
            "training.opacity_loss=0.29",
            "training.mask_loss=0.001",
            "passes.sampler.ray_march.coarse_steps=8",
        ],
        &[
            "loss={l2={}}",
            "scene.background=\"white\"",
            "passes.sampler={stratified={n_samples=64,jitter=true,min_transmittance=0.0}}",
            "passes.field.density_activation=\"relu\"",
        ],
        &[
            "passes.field.density_activation=\"softplus\"",
            "passes.field.color_activation=\"none\"",
            "passes.field.direction_encoding={frequency={n_frequencies=4}}",
            "passes.field.density_network.biases=true",
            "passes.field.color_network={n_neurons=64,n_hidden_layers=4,biases=true}",
            "optimizer.warmup_steps=10",
        ],
        &[
            "passes.field.position_encoding.hash_grid.n_features_per_level=1",
            "passes.field.position_encoding.hash_grid.dense_levels=false",
            "passes.field.position_encoding.hash_grid.grid_offset=0.0",
            "passes.field.direction_encoding.spherical_harmonics.degree=4",
        ],
        &[
            "passes.field.position_encoding={frequency={n_frequencies=10}}",
            "passes.field.direction_encoding={frequency={n_frequencies=4}}",
        ],
        &[
            "passes.field.position_encoding.hash_grid.n_features_per_level=8",
            "passes.field.direction_encoding.spherical_harmonics.degree=1",
            "passes.field.n_density_outputs=64",
        ],
    ];
    let of_passes: [&[&str]; 3] = [
        &[],
        &[
            "training.density_noise=0.5",
            "passes.0.field.density_to_color=false",
            "passes.0.field.n_density_outputs=17",
            "scene.ndc={near=1.0,half=[0.6,0.4]}",
            "training.crop_steps=5",
            "scene.ray_direction=\"unit\"",
            "passes.0.sampler.stratified.spacing=\"disparity\"",
            "passes.0.sampler.stratified.bounded=true",
            "passes.0.sampler.stratified.last_interval=0.001",
            "passes.1.sampler.importance.merge=false",
            "passes.1.field.feature_activation=\"relu\"",
            "optimizer.staircase=true",
        ],
        // Density and colour from one wide network.
        &[
            "passes.1.field={position_encoding={frequency={n_frequencies=5}},density_network={n_neurons=96,n_hidden_layers=2,skips=[1,2]},n_density_outputs=4}",
        ],
    ];
    let of_cells: [&[&str]; 4] = [
        &[],
        &[
            "passes.field.cells={resolution=[3,4,5],low=[0.2,0.1,0.0],local=false}",
            "passes.field.density_activation=\"relu\"",
            "passes.sampler.ray_march.min_transmittance=0.01",
            "optimizer.ema_decay=0.9",
        ],
        &[
            "passes.field.cells.longest=3",
            "passes.field.density_to_color=true",
            "passes.field.n_density_outputs=16",
            "passes.field.density_network.biases=false",
        ],
        &[
            "passes.field.cells.longest=4",
            "passes.field.position_encoding={hash_grid={n_levels=4,n_features_per_level=2,log2_hashmap_size=12,base_resolution=4}}",
        ],
    ];
    let of_objects: [&[&str]; 2] = [&[], &["optimizer.algorithm=\"adam\""]];
    // Small buffers, since their sizes are not tested here.
    let marched = ["training.batch_size=4096", "occupancy.resolution=32"];
    let mut configs = Vec::new();
    for preset in Config::presets() {
        let (sets, small): (&[&[&str]], &[&str]) = if preset.starts_with("nerf") {
            (&of_passes, &["training.n_rays=32"])
        } else if preset.starts_with("kilonerf") {
            (&of_cells, &marched)
        } else if preset.starts_with("learnit") {
            (&of_objects, &["training.n_rays=32"])
        } else {
            (&sets, &marched)
        };
        for set in sets {
            let overrides = small.iter().chain(*set);
            let overrides: Vec<String> = overrides.map(|s| (*s).to_owned()).collect();
            configs.push(Config::preset(preset, &overrides).unwrap());
        }
        // Add meta-learning of the initialisation, with each inner optimiser.
        let small: Vec<String> = small.iter().map(|s| (*s).to_owned()).collect();
        for algorithm in [Algorithm::Adam, Algorithm::Sgd] {
            let mut config = Config::preset(preset, &small).unwrap();
            config.distillation = None;
            config.optimizer.algorithm = algorithm;
            config.meta = Some(Meta::default_for(&config.optimizer));
            configs.push(config);
        }
    }
    configs
}

/// Build all stages of training and rendering on `gpu`, and return the texts that were compiled.
fn texts(gpu: &Arc<Gpu>) -> Vec<(String, String)> {
    let mut image = Image {
        width: 4,
        height: 4,
        pixels: vec![255; 64],
        has_alpha: false,
        mask: None,
    };
    let mut camera = Camera::look_at([2.0, 0.0, 0.0], [0.0; 3], [0.0, 0.0, 1.0], 0.7, 4, 4);
    camera.lens = Lens::OpenCvFisheye {
        k1: 0.0,
        k2: 0.0,
        k3: 0.0,
        k4: 0.0,
    };
    for (index, config) in configs().into_iter().enumerate() {
        let config = config.resolve(SceneHints::default(), gpu.class());
        // Every other configuration has a mask.
        image.mask = (index % 2 == 1).then(|| Mask::from_fn(4, 4, |x, _| x > 0));
        let images = ImageSet::upload(
            gpu,
            std::slice::from_ref(&image),
            &[GpuCamera::new(&camera, [0.0, 9.0], &SceneFrame::WORLD)],
        )
        .unwrap();
        let known = DepthSample {
            image: 0,
            pixel: 5,
            distance: 2.0,
            weight: 1.0,
        };
        let images = images.with_depths(gpu, &[known]).unwrap();
        // A field of the same shape can be the teacher.
        let has_teacher = config.distillation.is_some() && config.passes[0].field.cells.is_some();
        let teacher = has_teacher.then(|| {
            let field = Field::of_passes(gpu.profile(), &config).unwrap().remove(0);
            let parameters = FieldParameters::new(gpu, &field).unwrap();
            let grid = OccupancyGrid::of_config(gpu, &config, &field).unwrap();
            let grid = grid.unwrap().with_fixed_threshold();
            grid.update(gpu, &field, &parameters).unwrap();
            Teacher::new(config.clone(), field, parameters)
        });
        let config = config.with(|config| {
            if let (Some(distillation), Some(_)) = (&mut config.distillation, &teacher) {
                "teacher".clone_into(&mut distillation.teacher);
            }
        });
        let trainer = Trainer::new(gpu, &config, &images, teacher.as_ref()).unwrap();
        let mut renderer =
            Renderer::new(gpu, &config, trainer.occupancy.as_ref().map(|g| &g.bits)).unwrap();
        trainer.export_ema(&renderer.parameters).unwrap();
        renderer.normal_source = NormalSource::Density;
        renderer.begin(&camera, None, true).unwrap();
        for show in [
            RenderMode::Color,
            RenderMode::Normals,
            RenderMode::Occupancy,
        ] {
            if renderer.can_show(show) {
                let shading = Shading {
                    show,
                    background: Background::Fixed([1.0; 3]),
                    depth_range: [1.0, 2.0],
                    max_ray_samples: 64.0,
                    up: [0.0, 0.0, 1.0],
                };
                renderer.begin_picture(&camera, None, &shading).unwrap();
            }
        }
        gpu.wait().unwrap();
    }
    gpu.compiled_texts()
}

/// Return a device, unless there is none and none is required.
fn open(class: Option<AdapterClass>, base_path: bool) -> Option<Arc<Gpu>> {
    let options = GpuOptions {
        device: None,
        base_path,
        class,
        checked: None,
    };
    match Gpu::open(&options) {
        Ok(gpu) => Some(gpu),
        Err(GpuError::NoAdapter) if std::env::var("KILN_REQUIRE_GPU").as_deref() != Ok("1") => {
            println!("skipped: no GPU adapter");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
#[ignore = "takes three minutes: make test-tools runs it"]
fn a_browser_compiles_the_texts_of_gpus() {
    let Some(browser) = browser() else { return };
    let mut all = BTreeMap::new();
    for (class, base_path) in [
        (AdapterClass::Discrete, false),
        (AdapterClass::Software, true),
    ] {
        let Some(gpu) = open(Some(class), base_path) else {
            return;
        };
        for (label, text) in texts(&gpu) {
            let entry = label.split_once("::").unwrap().1.to_owned();
            let name = format!("{label} {:08x}", crc32c::crc32c(text.as_bytes()));
            all.insert(name, (entry, text));
        }
    }
    assert!(all.len() > 100, "{} kernels", all.len());
    // What the standard forbids is refused: the check can fail.
    let wrong = "@compute @workgroup_size(1) fn main() { let x = 4u; let y = x >> 1u & 1u; }";
    all.insert("wrong".to_owned(), ("main".to_owned(), wrong.to_owned()));
    let mut refused = webgpu::refused(&browser, &all);
    assert!(refused.remove("wrong").is_some());
    let told: Vec<String> = refused
        .iter()
        .map(|(name, faults)| format!("{name}: {}", faults.join("; ")))
        .collect();
    assert!(
        told.is_empty(),
        "{} of {}:\n{}",
        told.len(),
        all.len(),
        told.join("\n")
    );
}

#[test]
fn every_text_translates_for_every_backend() {
    let mut files = BTreeSet::new();
    for (class, base_path) in [
        (None, false),
        (None, true),
        (Some(AdapterClass::Discrete), false),
    ] {
        let Some(gpu) = open(class, base_path) else {
            return;
        };
        let texts = texts(&gpu);
        assert!(texts.len() > 60, "{} kernels", texts.len());
        for (label, text) in &texts {
            let (file, entry) = label.split_once("::").unwrap();
            files.insert(file.to_owned());
            let (module, info) = validate(text);
            let sizes =
                translate(entry, &module, &info).unwrap_or_else(|e| panic!("{label}: {e}\n{text}"));
            assert!(sizes.iter().all(|&size| size > 100), "{label}: {sizes:?}");
        }
    }
    // Files that no configuration uses yet, and files without entry points.
    let unreached = [
        "entry/bench_peak",
        "loss",
        "network/transpose",
        "scene/car",
        "scene/demo",
        "scene/room",
        "scene/solids",
    ];
    let imported = |name: &&str| name.starts_with("common/") || DIRECTION_ENCODINGS.contains(name);
    let expected: BTreeSet<String> = shader_names()
        .into_iter()
        .filter(|name| !imported(name) && !unreached.contains(name))
        .map(str::to_owned)
        .collect();
    assert_eq!(files, expected);
}

/// Functions without bindings; `entry/direction` imports one of them.
const DIRECTION_ENCODINGS: [&str; 2] = ["encoding/frequency", "encoding/spherical_harmonics"];

fn files_under(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == ending) {
                files.push(path);
            }
        }
    }
    files
}

#[test]
fn every_shader_file_is_built_in() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let name = |path: &PathBuf| {
        let relative = path.strip_prefix(&root).unwrap().with_extension("");
        relative
            .components()
            .map(|c| c.as_os_str().to_str().unwrap().to_owned())
            .collect::<Vec<_>>()
            .join("/")
    };
    let on_disk: BTreeSet<String> = files_under("shaders", "wgsl").iter().map(name).collect();
    let built_in: BTreeSet<String> = shader_names().into_iter().map(str::to_owned).collect();
    assert_eq!(on_disk, built_in);
    assert_eq!(shader_names().len(), built_in.len(), "none is listed twice");
}

#[test]
fn an_unknown_shader_and_a_faulty_template_are_errors() {
    let error = Shader::load("nothing", &Defines::new(), false)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("nothing") && error.contains("no such file"),
        "{error}"
    );
    let error = Shader::load("loss", &Defines::new(), false)
        .unwrap_err()
        .to_string();
    assert!(error.contains("loss"), "{error}");
}

/// Return the name and byte offset of each member of the struct `name`, and its size.
fn layout(file: &str, defines: &Defines, name: &str) -> (Vec<(String, u32)>, u32) {
    let shader = Shader::load(file, defines, false).unwrap();
    let module = naga::front::wgsl::parse_str(&shader.text).unwrap();
    let (_, ty) = module
        .types
        .iter()
        .find(|(_, ty)| ty.name.as_deref() == Some(name))
        .unwrap();
    let naga::TypeInner::Struct { members, span } = &ty.inner else {
        panic!("{name} is no struct")
    };
    (
        members
            .iter()
            .map(|m| (m.name.clone().unwrap(), m.offset))
            .collect(),
        *span,
    )
}

macro_rules! mirror {
    ($mirror:ty: $($field:ident),* $(,)?) => {
        (
            vec![$((stringify!($field).to_owned(), offset_of!($mirror, $field) as u32)),*],
            size_of::<$mirror>() as u32,
        )
    };
}

#[test]
fn mirrored_structs_have_the_layout_of_the_shaders() {
    let state = mirror!(StepState:
        step, seed, n_rays, n_marched, n_kept, n_rays_fitting, n_rays_total, n_kept_total, n_marched_total, next_rays,
        loss, squared_error, learning_rate, non_finite, saturated, occupancy_phase, n_tiles, n_cells, max_ray_samples, task,
        task_start,
    );
    assert_eq!(layout("common/step", &Defines::new(), "StepState"), state);
    assert_eq!(
        layout(
            "common/step",
            &Defines::new().set("counts_faults", true),
            "StepState"
        ),
        state
    );
    let camera = mirror!(GpuCamera:
        world_from_camera, focal, principal, distortion, view_low, view_high, lens, width, height, chunk, first_pixel, near,
        far, first_mask,
    );
    assert_eq!(layout("common/camera", &Defines::new(), "Camera"), camera);
    let crop = mirror!(GpuCrop: low, is_set, high, unused);
    assert_eq!(layout("common/crop", &Defines::new(), "Crop"), crop);
    let shade = mirror!(GpuShade: background, mode, near, far, max_ray_samples, stride, up, radius);
    let config = Config::preset("ngp", &[]).unwrap();
    let scene = SceneBox::of(&ResolvedConfig::from_run(config));
    let defines = scene.defines().set("pass", "show").set("cells", false);
    let defines = defines.set("linear", false);
    let defines = ["red", "green", "blue"]
        .into_iter()
        .fold(defines, |defines, name| defines.set_f32s(name, [0.0; 6]));
    assert_eq!(layout("viewer/screen", &defines, "Shade"), shade);
    let defines = Defines::new()
        .set_f32("min_opacity", 0.1)
        .set_f32("max_slope", 1.0);
    assert_eq!(layout("viewer/normals", &defines, "Shade"), shade);
    let level = mirror!(GpuLevel: scale, resolution, first_row, rows, dense, pad);
    let defines = Defines::new()
        .set("pass", "forward")
        .set("count", "n_kept")
        .set("stride", 4);
    let config = Config::preset(
        "ngp",
        &["passes.field.position_encoding.hash_grid.per_level_scale=2.0".to_owned()],
    )
    .unwrap();
    let PositionEncoding::HashGrid(grid) = &config.passes[0].field.position_encoding else {
        panic!("ngp has a hash grid");
    };
    let grid = HashGrid::new(grid, 1 << 30).unwrap();
    let (mut members, size) = layout(
        "encoding/hash_grid",
        &defines.merge(grid.defines(&grid.chunks()[0])),
        "Level",
    );
    members.retain(|(name, _)| !["pad_1", "pad_2"].contains(&name.as_str()));
    members.last_mut().unwrap().0 = "pad".to_owned();
    assert_eq!((members, size), level);
    let (_, ray) = layout("common/ray", &Defines::new(), "Ray");
    assert_eq!(u64::from(ray), kiln::images::RAY_BYTES);
    let (_, loss) = layout("common/ray_loss", &Defines::new(), "RayLoss");
    assert_eq!(u64::from(loss), kiln::compositing::RAY_LOSS_BYTES);
}
