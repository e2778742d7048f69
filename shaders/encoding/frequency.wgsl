// Frequency encoding (Mildenhall et al. 2020, eq. 4, without the factor pi): x, then sin(f x), cos(f x) for each of the
// frequencies, three values each. See src/encoding/frequency.rs.
#import common/trigonometry

const ENCODED: u32 = ${encoded}u;

fn encode(d: vec3<f32>) -> array<f32, ${encoded}> {
    var e: array<f32, ${encoded}>;
    //: set first = 3 if include_input else 0
    //: if include_input
    e[0] = d.x; e[1] = d.y; e[2] = d.z;
    //: endif
    //: for f in frequencies
    //: set j = loop.index0
    {
        let a = sin_cos_3(${f} * d);
        e[${first + 6 * j}] = a.s.x; e[${first + 6 * j + 1}] = a.s.y; e[${first + 6 * j + 2}] = a.s.z;
        e[${first + 6 * j + 3}] = a.c.x; e[${first + 6 * j + 4}] = a.c.y; e[${first + 6 * j + 5}] = a.c.z;
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
        let a = sin_cos_3(${f} * d);
        let gs = vec3<f32>(g[${first + 6 * j}], g[${first + 6 * j + 1}], g[${first + 6 * j + 2}]);
        let gc = vec3<f32>(g[${first + 6 * j + 3}], g[${first + 6 * j + 4}], g[${first + 6 * j + 5}]);
        r += ${f} * (gs * a.c - gc * a.s);
    }
    //: endfor
    return r;
}
