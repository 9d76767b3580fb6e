/* farshore.delta._kernel: the two models of docs/formats/patch.md in C. Its twin in Python gives the same bits.
 *
 * One type, Coder: an arithmetic coder with the models that learn along its stream. Nothing here parses what comes from
 * outside: the stream only ever answers "which branch", every loop is bounded by the buffers that the caller made, and
 * those are measured here before they are touched. The lock of the interpreter is let go while coding.
 */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "_bytes.h"
#include "_quick.h"
#include "_values.h"

#define MODELS 8

typedef struct {
    PyObject_HEAD
    Coder coder;
    Py_buffer stream;
    Model *models[MODELS];
    Bins *bins[MODELS];
    Memory memory;
    int busy, done;
} CoderObject;

static PyObject *coder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    PyObject *stream = Py_None;
    static char *names[] = {"stream", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O", names, &stream)) return NULL;
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    CoderObject *self = (CoderObject *)alloc(type, 0);
    if (!self) return NULL;
    if (stream != Py_None) {
        if (PyObject_GetBuffer(stream, &self->stream, PyBUF_SIMPLE) < 0) {
            Py_DECREF(self);
            return NULL;
        }
        self->coder.decode = 1;
        self->coder.in = self->stream.buf;
        self->coder.size = (size_t)self->stream.len;
    }
    coder_start(&self->coder);
    return (PyObject *)self;
}

static void coder_dealloc(PyObject *object) {
    CoderObject *self = (CoderObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    if (self->stream.obj) PyBuffer_Release(&self->stream);
    free(self->coder.out);
    for (int i = 0; i < MODELS; i++) {
        free(self->models[i]);
        free(self->bins[i]);
    }
    memory_drop(&self->memory, self->memory.count);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

static int coder_enter(CoderObject *self) {
    if (self->busy || self->done) {
        PyErr_SetString(PyExc_RuntimeError, self->busy ? "coder is in use by another thread" : "coder is finished");
        return 0;
    }
    return self->busy = 1;
}

/* A matrix with the model that its detail asks for, made when first used. */
static int code_values(CoderObject *self, int model, const Spec *s, uint64_t *u, const double *a) {
    Model **tree = &self->models[model];
    Bins **bins = &self->bins[model];
    if (s->detail) {
        if (!*tree && (*tree = malloc(sizeof(Model)))) model_start(*tree);
        return *tree && code_matrix(&self->coder, *tree, &self->memory, s, u, a);
    }
    if (!*bins && (*bins = malloc(sizeof(Bins)))) bins_start(*bins);
    return *bins && code_quick(&self->coder, *bins, s, u, a);
}

static PyObject *coder_values(PyObject *object, PyObject *args) {
    CoderObject *self = (CoderObject *)object;
    Py_buffer indices, base;
    Spec s = {0};
    Kin *kin = s.kin;
    int model;
    if (!PyArg_ParseTuple(args, "w*y*i(iiiiidiiiiiiddd)|(iiiiiiiiiiiii)", &indices, &base, &model, &s.kind, &s.bits, &s.mantissa, &s.bias,
                          &s.shift, &s.zero, &s.rows, &s.cols, &s.period, &s.flags, &s.joints, &s.detail, &s.scale,
                          &s.size, &s.prior, &s.own, &kin[0].back, &kin[0].inputs, &kin[0].start, &kin[0].share,
                          &kin[1].back, &kin[1].inputs, &kin[1].start, &kin[1].share, &kin[2].back, &kin[2].inputs,
                          &kin[2].start, &kin[2].share))
        return NULL;
    PyObject *result = NULL;
    size_t n = s.rows > 0 && s.cols > 0 ? (size_t)s.rows * (size_t)s.cols : 0;
    int floats = s.kind == KIND_FLOAT, fits = n > 0 && n <= (size_t)1 << 28 && (size_t)indices.len == n * 8
        && (size_t)base.len == n * 8 && model >= 0 && model < MODELS && s.bits >= 1 && s.bits <= 64 && s.shift >= 0
        && (floats || (s.kind == KIND_INT && s.bits <= 33 && s.shift == 0))
        && (!floats || (s.mantissa >= 1 && s.mantissa <= 52 && s.shift <= s.mantissa && s.bias >= 1 && s.bias <= 1023
                        && s.bits + s.shift > s.mantissa + 1 && s.bits + s.shift - s.mantissa <= 12))
        && s.period >= 0 && s.period <= 1 << 28 && s.detail >= 0 && s.detail <= 2 && s.joints >= 0 && s.joints <= MOST_JOINTS && s.scale >= 1e-37 && s.scale <= 1e37 && s.size >= 1e-37
        && s.size <= 1e37 && s.zero >= 0.0 && s.zero <= 4294967296.0 && s.prior >= 1e-3 && s.prior <= 1e3
        && (!s.joints || s.rows <= MOST_JOINT_ROWS) && (s.detail || (s.bits <= 33 && s.bias <= 127))
        && (!(s.flags & FLAG_CHANNELS) || (s.detail && channels_fit(s.rows, s.cols, s.period)));
    for (size_t i = 0; fits && i < n; i++) {
        double x = ((const double *)base.buf)[i];
        fits = x >= -1e30 && x <= 1e30;
    }
    if (!fits) {
        PyErr_SetString(PyExc_ValueError, "matrix does not fit its description");
    } else if (coder_enter(self)) {
        int fine;
        Py_BEGIN_ALLOW_THREADS
        fine = code_values(self, model, &s, indices.buf, base.buf) && !self->coder.failed;
        Py_END_ALLOW_THREADS
        self->busy = 0;
        result = fine ? Py_NewRef(Py_None) : PyErr_NoMemory();
    }
    PyBuffer_Release(&indices);
    PyBuffer_Release(&base);
    return result;
}

static PyObject *coder_bytes(PyObject *object, PyObject *args) {
    CoderObject *self = (CoderObject *)object;
    Py_buffer data, places;
    Py_ssize_t history, trained;
    int level;
    if (!PyArg_ParseTuple(args, "w*y*nni", &data, &places, &history, &trained, &level)) return NULL;
    PyObject *result = NULL;
    const int64_t *place = places.buf;
    size_t n = (size_t)places.len / 16;
    int fits = history >= 0 && history <= data.len && trained >= 0 && trained <= history && data.len <= (Py_ssize_t)1 << 30
        && n >= 1 && n <= (size_t)1 << 24 && (size_t)places.len == n * 16 && place[0] == 0;
    for (size_t i = 0; fits && i < n; i++)
        fits = place[2 * i] <= data.len && place[2 * i + 1] >= 0 && place[2 * i + 1] < (int64_t)1 << 62
            && (!i || place[2 * i] > place[2 * i - 2]);
    if (!fits) {
        PyErr_SetString(PyExc_ValueError, "history or places do not fit the data");
    } else if (coder_enter(self)) {
        int fine;
        Py_BEGIN_ALLOW_THREADS
        fine = code_bytes(&self->coder, data.buf, place, n, (size_t)history, (size_t)trained, (size_t)data.len, level) && !self->coder.failed;
        Py_END_ALLOW_THREADS
        self->busy = 0;
        result = fine ? Py_NewRef(Py_None) : PyErr_NoMemory();
    }
    PyBuffer_Release(&data);
    PyBuffer_Release(&places);
    return result;
}

static PyObject *coder_end(PyObject *object, PyObject *unused) {
    (void)unused;
    CoderObject *self = (CoderObject *)object;
    if (self->coder.decode) {
        PyErr_SetString(PyExc_RuntimeError, "a decoder has nothing to finish");
        return NULL;
    }
    if (!coder_enter(self)) return NULL;
    coder_finish(&self->coder);
    self->busy = 0;
    self->done = 1;
    if (self->coder.failed) return PyErr_NoMemory();
    return PyBytes_FromStringAndSize((const char *)self->coder.out, (Py_ssize_t)self->coder.at);
}

static PyObject *coder_size(PyObject *object, void *unused) {
    (void)unused;
    return PyLong_FromSize_t(((CoderObject *)object)->coder.at);
}

static PyMethodDef coder_methods[] = {
    {"values", coder_values, METH_VARARGS, "Code one matrix of grid indices in place."},
    {"bytes", coder_bytes, METH_VARARGS, "Code data[history:] in place."},
    {"finish", coder_end, METH_NOARGS, "End the stream and return it."},
    {NULL, NULL, 0, NULL},
};
static PyGetSetDef coder_attributes[] = {
    {"size", coder_size, NULL, "Bytes written or read so far.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
static PyType_Slot coder_slots[] = {
    {Py_tp_new, coder_new},
    {Py_tp_dealloc, coder_dealloc},
    {Py_tp_methods, coder_methods},
    {Py_tp_getset, coder_attributes},
    {Py_tp_doc, "An arithmetic coder and its models; decodes `stream` if one is given."},
    {0, NULL},
};
static PyType_Spec coder_spec = {"farshore.delta._kernel.Coder", sizeof(CoderObject), 0, Py_TPFLAGS_DEFAULT, coder_slots};

static int kernel_exec(PyObject *module) {
    make_tables();
    make_quantiles();
    PyObject *type = PyType_FromSpec(&coder_spec);
    if (!type) return -1;
    int failed = PyModule_AddObjectRef(module, "Coder", type);
    Py_DECREF(type);
    return failed;
}

static PyModuleDef_Slot kernel_slots[] = {{Py_mod_exec, kernel_exec}, {0, NULL}};
static PyModuleDef kernel_module = {PyModuleDef_HEAD_INIT, "_kernel", "The models of a patch, in C.", 0, NULL, kernel_slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kernel(void) { return PyModuleDef_Init(&kernel_module); }
