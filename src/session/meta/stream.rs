//! Objects on their way to the device: they stay there while there is room, and are read ahead of their turn beyond that.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, channel};

use rayon::prelude::*;

use crate::config::Config;
use crate::dataset::{Content, DatasetError, Frame, Image, Object, load_with_contents};
use crate::gpu::{Gpu, GpuError};
use crate::images::{GpuCamera, ImageSet, TASKS, near_far};
use crate::reptile::Order;
use crate::scene_frame::SceneFrame;
use crate::session::{self, Observer, ObserverExt as _};

/// Outer steps whose objects are on the device before they are due, at most.
const AHEAD: u32 = 16;
/// Outer steps whose objects are read before that, where they do not all stay.
const READ_AHEAD: u32 = 8;
/// Slots without which there is no going on: of the object under way, of the next one, and of one that is held out.
const LEAST_SLOTS: u32 = 3;

/// Images of an object, with what tells their files' bytes from others.
type Loaded = Result<(Vec<Image>, String), DatasetError>;

/// The images of all objects, as many of them on the device as have room.
pub(super) struct Stream<'a> {
    gpu: &'a Gpu,
    config: &'a Config,
    objects: &'a [Object],
    pub(super) set: ImageSet,
    order: Order,
    /// Object in each slot, and the last outer step that is about it. The last slot is for who is held out.
    slots: Vec<(Option<u32>, u32)>,
    /// First outer step whose object is not known to the device.
    next: u32,
    reading: HashMap<u32, Receiver<Loaded>>,
    /// What tells the bytes of each object's images from others; empty where they were not read.
    fingerprints: Vec<String>,
    /// The first object whose images turned out not to be those that were learned from before, and whether that was told.
    changed: Option<(usize, bool)>,
}

fn load(object: &Object) -> Loaded {
    let frames = &object.frames;
    let (images, contents) = load_with_contents(frames, object.dataset.downscale, &|| ())?;
    Ok((images, Content::fingerprint(&contents)))
}

fn cameras(config: &Config, frames: &[Frame], downscale: u32) -> Vec<GpuCamera> {
    let camera = |f: &Frame| {
        let scene_frame = SceneFrame::of(config);
        let near_far = near_far(config, f.near_far);
        GpuCamera::new(&f.camera.downscaled(downscale), near_far, &scene_frame)
    };
    frames.iter().map(camera).collect()
}

/// Pixels of all of `frames`.
pub(super) fn pixels(frames: &[Frame], downscale: u32) -> u64 {
    let of = |f: &Frame| {
        let camera = f.camera.downscaled(downscale);
        u64::from(camera.width) * u64::from(camera.height)
    };
    frames.iter().map(of).sum()
}

/// Put `frames` into `slot` of `set`.
pub(super) fn put(
    gpu: &Gpu,
    set: &ImageSet,
    config: &Config,
    slot: u32,
    (frames, downscale): (&[Frame], u32),
    images: &[Image],
) {
    set.put(gpu, slot, images, &cameras(config, frames, downscale));
}

/// Slots for `objects` that `config` has room for, and the bytes of each.
pub(super) fn slots(config: &Config, objects: &[Object]) -> (u32, u64) {
    let of = |o: &Object| pixels(&o.frames, o.dataset.downscale);
    let bytes = objects.iter().map(of).max().unwrap_or(1).max(1) * 4;
    let room = config
        .meta
        .as_ref()
        .map_or(0, |m| u64::from(m.resident_mib) << 20);
    let all = u32::try_from(objects.len()).unwrap_or(u32::MAX) + 1;
    let n = u32::try_from(room / bytes).unwrap_or(u32::MAX);
    (n.min(all).max(LEAST_SLOTS), bytes)
}

impl<'a> Stream<'a> {
    /// Room on `gpu`; nothing is read yet. `views` is how many an object has at most.
    pub(super) fn new(
        gpu: &'a Gpu,
        config: &'a Config,
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
            order: Order::new(config.seed, n_objects),
            slots: vec![(None, 0); n as usize],
            next: 0,
            reading: HashMap::new(),
            fingerprints: vec![String::new(); objects.len()],
            changed: None,
        })
    }

    /// Remember what images were learned from before, as [`Self::image_fingerprint`] told.
    pub(super) fn expect(&mut self, image_fingerprint: &str) {
        let known = image_fingerprint.split(',');
        for (mine, known) in self.fingerprints.iter_mut().zip(known) {
            known.clone_into(mine);
        }
    }

    /// What tells the images that were learned from, or were read, from others.
    pub(super) fn image_fingerprint(&self) -> String {
        self.fingerprints.join(",")
    }

    /// An object whose images are not those that were learned from before; there is one once.
    pub(super) fn take_changed(&mut self) -> Option<&'a Object> {
        match &mut self.changed {
            Some((object, told @ false)) => {
                *told = true;
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

    /// Whether all objects stay.
    pub(super) fn is_resident(&self) -> bool {
        self.slots.len() > self.objects.len()
    }

    /// Outer steps that may be submitted at once.
    pub(super) fn ahead(&self) -> u32 {
        AHEAD.min(self.slots.len() as u32 - LEAST_SLOTS + 1)
    }

    /// Read all objects, if they all stay; `progress` is called once per object. Blocks.
    pub(super) fn fill(
        &mut self,
        observer: &dyn Observer,
        progress: &(dyn Fn() + Sync),
    ) -> session::Result<()> {
        /// Objects on their way to the device at once.
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
                put(
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
            // What is written lies in memory of its own until it is submitted.
            self.gpu.submit([]);
            self.gpu.wait()?;
            observer.check()?;
        }
        Ok(())
    }

    /// Let outer steps begin at `step`, as a resumed run's do.
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
            // Nobody may be waiting any more.
            let _ = sender.send(load(&object_of));
        });
        self.reading.insert(object, receiver);
    }

    /// Let the device know the objects of the outer steps from `step` on. Waits for the disk where it has to.
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

    /// The slot that `object` is in, from now on at least. What outer steps from `step` on need stays where it is.
    fn slot_of(&mut self, object: u32, step: u32) -> Result<u32, DatasetError> {
        let places = &self.slots[..self.slots.len() - 1];
        if let Some(slot) = places.iter().position(|s| s.0 == Some(object)) {
            return Ok(slot as u32);
        }
        let is_free = |(_, s): &(usize, &(Option<u32>, u32))| s.0.is_none() || s.1 < step;
        let oldest = places.iter().enumerate().filter(is_free);
        let slot = oldest.min_by_key(|(_, s)| (s.0.is_some(), s.1));
        // There are as many as outer steps that are known in advance, and one more.
        let slot = slot.map_or(0, |(slot, _)| slot);
        self.read(object);
        let (images, fingerprint) = match self.reading.remove(&object).map(|r| r.recv()) {
            Some(Ok(loaded)) => loaded?,
            // The thread that read it is gone: once more, here.
            _ => load(&self.objects[object as usize])?,
        };
        let of = &self.objects[object as usize];
        let frames = (of.frames.as_slice(), of.dataset.downscale);
        put(
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

    /// Let the task beside the others be about `image`, seen as `frame`: of an object that is held out.
    pub(super) fn hold_out(&self, frame: &Frame, image: &Image, downscale: u32) {
        let frames = (std::slice::from_ref(frame), downscale);
        let slot = self.slots.len() as u32 - 1;
        let image = std::slice::from_ref(image);
        put(self.gpu, &self.set, self.config, slot, frames, image);
        self.set.assign(self.gpu, TASKS, slot, 1);
    }
}
