//! Streams the images of objects to the device. If all objects fit, they stay there; otherwise they are read before they are
//! needed.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, channel};

use rayon::prelude::*;

use crate::config::ResolvedConfig;
use crate::dataset::{DatasetError, FileIdentity, Frame, Image, Object, load_with_contents};
use crate::gpu::{Gpu, GpuError};
use crate::images::{GpuCamera, ImageSet, TASKS, near_far};
use crate::reptile::ObjectOrder;
use crate::scene_frame::SceneFrame;
use crate::session::{self, Observer, ObserverExt as _};

/// Maximum number of outer steps whose objects are uploaded in advance.
const MAX_LOOKAHEAD: u32 = 16;
/// Number of further outer steps whose objects are read in advance, if not all objects fit on the device.
const READ_AHEAD: u32 = 8;
/// Minimum number of slots: for the current object, the next one, and a held-out one.
const MIN_SLOTS: u32 = 3;

/// Images of an object, with the fingerprint of their files' bytes.
type Loaded = Result<(Vec<Image>, String), DatasetError>;

/// The images of all objects, of which as many as fit are on the device.
pub(super) struct Stream<'a> {
    gpu: &'a Gpu,
    config: &'a ResolvedConfig,
    objects: &'a [Object],
    pub(super) set: ImageSet,
    order: ObjectOrder,
    /// Object in each slot, and the last outer step that uses it. The last slot is for held-out objects.
    slots: Vec<(Option<u32>, u32)>,
    /// First outer step whose object has not been assigned to a slot.
    next: u32,
    /// Objects that are being read.
    reading: HashMap<u32, Receiver<Loaded>>,
    /// Fingerprint of the image files of each object; empty if they have not been read.
    fingerprints: Vec<String>,
    /// The first object whose image files have changed since the checkpoint, and whether that was reported.
    changed: Option<(usize, bool)>,
}

fn load(object: &Object) -> Loaded {
    let frames = &object.frames;
    let (images, contents) = load_with_contents(frames, object.dataset.downscale, &|| ())?;
    Ok((images, FileIdentity::fingerprint(&contents)))
}

fn cameras(config: &ResolvedConfig, frames: &[Frame], downscale: u32) -> Vec<GpuCamera> {
    let camera = |f: &Frame| {
        let scene_frame = SceneFrame::of(config);
        let near_far = near_far(config, f.near_far);
        GpuCamera::new(&f.camera.downscaled(downscale), near_far, &scene_frame)
    };
    frames.iter().map(camera).collect()
}

/// Return the number of pixels of all `frames`.
pub(super) fn pixels(frames: &[Frame], downscale: u32) -> u64 {
    let of = |f: &Frame| {
        let camera = f.camera.downscaled(downscale);
        u64::from(camera.width) * u64::from(camera.height)
    };
    frames.iter().map(of).sum()
}

/// Upload `frames` to `slot` of `set`.
pub(super) fn upload_object(
    gpu: &Gpu,
    set: &ImageSet,
    config: &ResolvedConfig,
    slot: u32,
    (frames, downscale): (&[Frame], u32),
    images: &[Image],
) {
    set.put(gpu, slot, images, &cameras(config, frames, downscale));
}

/// Return the number of slots that fit into the memory that `config` allows for `objects`, and the size of a slot in bytes.
pub(super) fn slots(config: &ResolvedConfig, objects: &[Object]) -> (u32, u64) {
    let of = |o: &Object| pixels(&o.frames, o.dataset.downscale);
    let bytes = objects.iter().map(of).max().unwrap_or(1).max(1) * 4;
    let room = config
        .meta
        .as_ref()
        .map_or(0, |m| u64::from(m.resident_mib) << 20);
    let all = u32::try_from(objects.len()).unwrap_or(u32::MAX) + 1;
    let n = u32::try_from(room / bytes).unwrap_or(u32::MAX);
    (n.min(all).max(MIN_SLOTS), bytes)
}

impl<'a> Stream<'a> {
    /// Allocate the slots on `gpu`; nothing is read yet. `views` is the largest number of views of an object.
    pub(super) fn new(
        gpu: &'a Gpu,
        config: &'a ResolvedConfig,
        objects: &'a [Object],
        views: usize,
    ) -> Result<Self, GpuError> {
        let (n, bytes) = slots(config, objects);
        let views = u32::try_from(views).unwrap_or(u32::MAX);
        let n_objects = u32::try_from(objects.len()).unwrap_or(u32::MAX);
        Ok(Self {
            gpu,
            config,
            objects,
            set: ImageSet::of_slots(gpu, n, views, bytes / 4)?,
            order: ObjectOrder::new(config.seed, n_objects),
            slots: vec![(None, 0); n as usize],
            next: 0,
            reading: HashMap::new(),
            fingerprints: vec![String::new(); objects.len()],
            changed: None,
        })
    }

    /// Restore the fingerprints of a checkpoint, as returned by [`Self::image_fingerprint`], to detect changed images.
    pub(super) fn restore_fingerprints(&mut self, image_fingerprint: &str) {
        let known = image_fingerprint.split(',');
        for (mine, known) in self.fingerprints.iter_mut().zip(known) {
            known.clone_into(mine);
        }
    }

    /// Return the fingerprints of the image files of all objects, separated by commas.
    pub(super) fn image_fingerprint(&self) -> String {
        self.fingerprints.join(",")
    }

    /// Return, once, the first object whose image files have changed since the checkpoint.
    pub(super) fn take_changed(&mut self) -> Option<&'a Object> {
        match &mut self.changed {
            Some((object, reported @ false)) => {
                *reported = true;
                Some(&self.objects[*object])
            }
            _ => None,
        }
    }

    fn note(&mut self, object: usize, fingerprint: String) {
        let known = &mut self.fingerprints[object];
        if !known.is_empty() && *known != fingerprint {
            self.changed.get_or_insert((object, false));
        }
        *known = fingerprint;
    }

    /// Return whether all objects fit on the device.
    pub(super) fn is_resident(&self) -> bool {
        self.slots.len() > self.objects.len()
    }

    /// Return the number of outer steps that may be submitted at once.
    pub(super) fn ahead(&self) -> u32 {
        MAX_LOOKAHEAD.min(self.slots.len() as u32 - MIN_SLOTS + 1)
    }

    /// Read and upload all objects if they all fit; `progress` is called once per object. Blocks.
    pub(super) fn fill(
        &mut self,
        observer: &dyn Observer,
        progress: &(dyn Fn() + Sync),
    ) -> session::Result<()> {
        /// Objects that are read and uploaded together.
        const AT_ONCE: usize = 16;
        if !self.is_resident() {
            return Ok(());
        }
        for (chunk, objects) in self.objects.chunks(AT_ONCE).enumerate() {
            let all = objects.par_iter().map(|object| {
                let loaded = load(object)?;
                progress();
                Ok(loaded)
            });
            let all = all.collect::<Result<Vec<_>, DatasetError>>()?;
            for (i, (object, (images, fingerprint))) in objects.iter().zip(all).enumerate() {
                let slot = chunk * AT_ONCE + i;
                let frames = (object.frames.as_slice(), object.dataset.downscale);
                upload_object(
                    self.gpu,
                    &self.set,
                    self.config,
                    slot as u32,
                    frames,
                    &images,
                );
                self.note(slot, fingerprint);
                self.slots[slot].0 = Some(slot as u32);
            }
            // Submit, so that the staging memory of the uploads is released.
            self.gpu.submit([]);
            self.gpu.wait()?;
            observer.check()?;
        }
        Ok(())
    }

    /// Start at outer step `step`, for a resumed run.
    pub(super) fn seek(&mut self, step: u32) {
        self.next = step;
    }

    fn read(&mut self, object: u32) {
        if self.reading.contains_key(&object) {
            return;
        }
        let (sender, receiver) = channel();
        let object_of = self.objects[object as usize].clone();
        rayon::spawn(move || {
            // The receiver may be gone.
            let _ = sender.send(load(&object_of));
        });
        self.reading.insert(object, receiver);
    }

    /// Upload the objects of the outer steps from `step` on and assign them to tasks. Blocks if an object has not been read
    /// yet.
    pub(super) fn prepare(&mut self, step: u32) -> Result<(), DatasetError> {
        let end = step + self.ahead();
        for due in end..end + if self.is_resident() { 0 } else { READ_AHEAD } {
            let object = self.order.object(due);
            if !self.slots.iter().any(|s| s.0 == Some(object)) {
                self.read(object);
            }
        }
        while self.next < end {
            let due = self.next;
            let object = self.order.object(due);
            let slot = self.slot_of(object, step)?;
            let n = self.objects[object as usize].frames.len();
            let n = u32::try_from(n).unwrap_or(u32::MAX);
            self.set.assign(self.gpu, due % TASKS, slot, n);
            self.slots[slot as usize].1 = due;
            self.next += 1;
        }
        Ok(())
    }

    /// Return the slot of `object`, uploading it if necessary. Objects that outer steps from `step` on need are not replaced.
    fn slot_of(&mut self, object: u32, step: u32) -> Result<u32, DatasetError> {
        let places = &self.slots[..self.slots.len() - 1];
        if let Some(slot) = places.iter().position(|s| s.0 == Some(object)) {
            return Ok(slot as u32);
        }
        let is_free = |(_, s): &(usize, &(Option<u32>, u32))| s.0.is_none() || s.1 < step;
        let oldest = places.iter().enumerate().filter(is_free);
        let slot = oldest.min_by_key(|(_, s)| (s.0.is_some(), s.1));
        // A slot is always free: there is one more than the number of outer steps assigned in advance.
        let slot = slot.map_or(0, |(slot, _)| slot);
        self.read(object);
        let (images, fingerprint) = match self.reading.remove(&object).map(|r| r.recv()) {
            Some(Ok(loaded)) => loaded?,
            // The reading thread is gone: read the object here.
            _ => load(&self.objects[object as usize])?,
        };
        let of = &self.objects[object as usize];
        let frames = (of.frames.as_slice(), of.dataset.downscale);
        upload_object(
            self.gpu,
            &self.set,
            self.config,
            slot as u32,
            frames,
            &images,
        );
        self.note(object as usize, fingerprint);
        self.slots[slot].0 = Some(object);
        Ok(slot as u32)
    }

    /// Upload `image` of `frame`, from a held-out object, and assign it to the extra task.
    pub(super) fn hold_out(&self, frame: &Frame, image: &Image, downscale: u32) {
        let frames = (std::slice::from_ref(frame), downscale);
        let slot = self.slots.len() as u32 - 1;
        let image = std::slice::from_ref(image);
        upload_object(self.gpu, &self.set, self.config, slot, frames, image);
        self.set.assign(self.gpu, TASKS, slot, 1);
    }
}
