//! Prefix sum and binning, compared exactly.

use kiln::gpu::primitives::{Bin, Scan};
use kiln::step_state::StepState;

use crate::reference::primitives;
use crate::reference::random::Pcg;
use crate::support::{Rig, on_both_devices, on_device};

#[test]
fn scan_equals_the_sequential_sum() {
    on_both_devices(|gpu| {
        let mut pcg = Pcg::new(1);
        for n in [0, 1, 63, 1023, 1024, 1025, 70_000] {
            let values: Vec<u32> = (0..n).map(|_| pcg.next_u32() % 9).collect();
            let rig = Rig::new(gpu, n, 0, 0);
            // Values after the end of the input must not matter.
            let input = rig.buffer(&[values.clone(), vec![77; 5]].concat());
            let output = rig.buffer(&vec![u32::MAX; n + 2]);
            let scan = Scan::new(gpu, "test", n as u64).unwrap();
            rig.run(|stage| scan.run(stage, &rig.counts, StepState::RAYS, &input, &output));
            let (mut expected, total) = primitives::exclusive_scan(&values);
            expected.extend([total, u32::MAX]);
            let actual: Vec<u32> = rig.read(&output, n + 2);
            let differs = (0..expected.len()).find(|&i| actual[i] != expected[i]);
            assert_eq!(
                differs,
                None,
                "scan of {n}: {:?}",
                differs.map(|i| (actual[i], expected[i]))
            );
        }
    });
}

#[test]
fn bin_sorts_stably() {
    const CAPACITY: usize = 6000;
    on_device(|gpu| {
        let mut pcg = Pcg::new(3);
        let matrix = StepState::counts(gpu, "matrix").unwrap();
        let bin = Bin::new(gpu, CAPACITY as u32, matrix, StepState::RAYS).unwrap();
        // (Number of pairs, number of distinct keys): none, one, a run and a bit, few keys, many keys, full.
        for (n, n_keys) in [
            (0, 4096),
            (1, 4096),
            (65, 3),
            (5000, 7),
            (5000, 4096),
            (CAPACITY, 4096),
        ] {
            let keys: Vec<u32> = (0..n).map(|_| pcg.next_u32() % n_keys).collect();
            let pairs: Vec<[u32; 2]> = keys.iter().zip(0..).map(|(&key, i)| [key, i]).collect();
            let rig = Rig::new(gpu, 0, 0, n);
            let buffer = rig.buffer(&[pairs, vec![[u32::MAX; 2]; CAPACITY - n]].concat());
            rig.run(|stage| bin.run(stage, &rig.counts, StepState::KEPT, &buffer, 12));
            let (order, _) = primitives::bin(&keys, n_keys);
            let expected: Vec<[u32; 2]> = order.iter().map(|&i| [keys[i as usize], i]).collect();
            assert!(
                rig.read::<[u32; 2]>(&buffer, n) == expected,
                "{n} pairs with {n_keys} keys"
            );
        }
    });
}
