// Frequency encoding (Mildenhall et al. 2020, eq. 4, without the factor pi): x, then sin(f x), cos(f x) for each of the
// frequencies, three values each. Arguments are reduced to [-pi, pi], since WGSL guarantees no accuracy beyond.
// See src/encoding/frequency.rs.
const ENCODED: u32 = ${encoded}u;

fn reduced(x: vec3<f32>) -> vec3<f32> {
    // 2 pi in two parts; the first has few bits, so that its product with the count is exact.
    let turns = round(x * 0.15915494309189535);
    return (x - turns * 6.28125) - turns * 0.0019353071795864769;
}

fn encode(d: vec3<f32>) -> array<f32, ${encoded}> {
    var e: array<f32, ${encoded}>;
    //: set first = 3 if include_input else 0
    //: if include_input
    e[0] = d.x; e[1] = d.y; e[2] = d.z;
    //: endif
    //: for f in frequencies
    //: set j = loop.index0
    {
        let a = reduced(${f} * d);
        let s = sin(a);
        let c = cos(a);
        e[${first + 6 * j}] = s.x; e[${first + 6 * j + 1}] = s.y; e[${first + 6 * j + 2}] = s.z;
        e[${first + 6 * j + 3}] = c.x; e[${first + 6 * j + 4}] = c.y; e[${first + 6 * j + 5}] = c.z;
    }
    //: endfor
    return e;
}

fn encode_backward(d: vec3<f32>, g: array<f32, ${encoded}>) -> vec3<f32> {
    var r = vec3<f32>(0.0);
    //: if include_input
    r += vec3<f32>(g[0], g[1], g[2]);
    //: endif
    //: for f in frequencies
    //: set j = loop.index0
    {
        let a = reduced(${f} * d);
        let gs = vec3<f32>(g[${first + 6 * j}], g[${first + 6 * j + 1}], g[${first + 6 * j + 2}]);
        let gc = vec3<f32>(g[${first + 6 * j + 3}], g[${first + 6 * j + 4}], g[${first + 6 * j + 5}]);
        r += ${f} * (gs * cos(a) - gc * sin(a));
    }
    //: endfor
    return r;
}
