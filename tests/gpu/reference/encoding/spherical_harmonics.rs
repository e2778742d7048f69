//! Real spherical harmonics up to degree 4 (bands 0..=3), in the order and with the signs of tiny-cuda-nn.
//!
//! Band l occupies `l^2..(l+1)^2`, with m from -l to l; the Condon-Shortley phase is included. On the unit sphere the functions
//! are orthonormal: `integral Y_i Y_j = [i = j]`. They are evaluated as polynomials in x, y, z, so the gradient is that of the
//! polynomial, not its projection onto the sphere.

use std::f64::consts::PI;

/// `coefficient * x^a y^b z^c`, as `(coefficient, [a, b, c])`.
type Term = (f64, [i32; 3]);

/// Return the number of values for a degree in 1..=4: 1, 4, 9 or 16.
pub fn n_outputs(degree: usize) -> usize {
    degree * degree
}

/// Return the `degree^2` basis values of the unit direction `d`.
pub fn forward(degree: usize, d: [f64; 3]) -> Vec<f64> {
    polynomials()[..n_outputs(degree)]
        .iter()
        .map(|terms| terms.iter().map(|&(k, p)| k * monomial(d, p)).sum())
        .collect()
}

/// Return `d_direction[a] = sum_i d_out[i] * dY_i/d_a`.
pub fn backward(degree: usize, d: [f64; 3], d_out: &[f64]) -> [f64; 3] {
    let mut d_direction = [0.0; 3];
    for (terms, d_out) in polynomials()[..n_outputs(degree)].iter().zip(d_out) {
        for &(k, powers) in terms {
            for (axis, d_direction) in d_direction.iter_mut().enumerate() {
                if powers[axis] > 0 {
                    let mut lowered = powers;
                    lowered[axis] -= 1;
                    *d_direction += d_out * k * f64::from(powers[axis]) * monomial(d, lowered);
                }
            }
        }
    }
    d_direction
}

fn monomial(d: [f64; 3], powers: [i32; 3]) -> f64 {
    (0..3).map(|axis| d[axis].powi(powers[axis])).product()
}

/// Return the sixteen polynomials, with explicit normalisation.
fn polynomials() -> [Vec<Term>; 16] {
    let k0 = (1.0 / (4.0 * PI)).sqrt();
    let k1 = (3.0 / (4.0 * PI)).sqrt();
    let k2_product = (15.0 / (4.0 * PI)).sqrt();
    let k2_zonal = (5.0 / (16.0 * PI)).sqrt();
    let k2_square = (15.0 / (16.0 * PI)).sqrt();
    let k3_sectoral = (35.0 / (32.0 * PI)).sqrt();
    let k3_product = (105.0 / (4.0 * PI)).sqrt();
    let k3_tesseral = (21.0 / (32.0 * PI)).sqrt();
    let k3_zonal = (7.0 / (16.0 * PI)).sqrt();
    let k3_square = (105.0 / (16.0 * PI)).sqrt();
    [
        vec![(k0, [0, 0, 0])],
        // Band 1: -y, z, -x
        vec![(-k1, [0, 1, 0])],
        vec![(k1, [0, 0, 1])],
        vec![(-k1, [1, 0, 0])],
        // Band 2: xy, -yz, 3zz - 1, -xz, xx - yy
        vec![(k2_product, [1, 1, 0])],
        vec![(-k2_product, [0, 1, 1])],
        vec![(3.0 * k2_zonal, [0, 0, 2]), (-k2_zonal, [0, 0, 0])],
        vec![(-k2_product, [1, 0, 1])],
        vec![(k2_square, [2, 0, 0]), (-k2_square, [0, 2, 0])],
        // Band 3: y(yy - 3xx), xyz, y(1 - 5zz), z(5zz - 3), x(1 - 5zz), z(xx - yy), x(3yy - xx)
        vec![(k3_sectoral, [0, 3, 0]), (-3.0 * k3_sectoral, [2, 1, 0])],
        vec![(k3_product, [1, 1, 1])],
        vec![(k3_tesseral, [0, 1, 0]), (-5.0 * k3_tesseral, [0, 1, 2])],
        vec![(5.0 * k3_zonal, [0, 0, 3]), (-3.0 * k3_zonal, [0, 0, 1])],
        vec![(k3_tesseral, [1, 0, 0]), (-5.0 * k3_tesseral, [1, 0, 2])],
        vec![(k3_square, [2, 0, 1]), (-k3_square, [0, 2, 1])],
        vec![(3.0 * k3_sectoral, [1, 2, 0]), (-k3_sectoral, [3, 0, 0])],
    ]
}
