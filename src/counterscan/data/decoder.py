"""The other end of `decoding.py`: decodes pictures in a Python of its own, which needs numpy and pydicom alone.

A message is one letter (r ready, d decode, a array, m no memory, e error), the lengths of its head and its body in 8
bytes each, the head as JSON, and the body. What libraries print goes nowhere.
"""

import json
import os
import signal
import struct
import warnings
from typing import Any, BinaryIO

import numpy as np
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.uid import JPEG2000, UID, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLSLossless

HEADER = ">cQQ"
PIPE = 1 << 20  # bytes that go over the line at once: a slice of 512 x 512
Body = bytes | memoryview
SAFER = ("pylibjpeg", "pyjpegls", "pillow")  # asked alone where they can: GDCM ends the process on damaged JPEG 2000
ONE_OF_A_KIND = (JPEGBaseline8Bit, JPEGLossless, JPEGLSLossless, JPEG2000)  # between them they load every library


def main() -> None:
    """Answer until the line is closed."""
    inbox, outbox = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", PIPE)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(2, 1)  # also for what compiled libraries print
    warnings.simplefilter("ignore")
    if hasattr(signal, "SIGPROF"):
        signal.signal(signal.SIGPROF, signal.SIG_DFL)  # a parent that ignores it hands that on
    for syntax in ONE_OF_A_KIND:
        get_decoder(syntax)  # loading is no part of the time that a picture may take
    _send(outbox, b"r", {}, b"")
    while header := inbox.read(struct.calcsize(HEADER)):
        _, told, body = struct.unpack(HEADER, header)
        head, stream = json.loads(inbox.read(told)), inbox.read(body)
        _allow(head["seconds"])
        answer = _answer(stream, head["options"])
        _allow(0)
        _send(outbox, *answer)


def _allow(seconds: float) -> None:
    """End this process once it has had so much of the processor's time, even without a parent; 0 lifts that."""
    if hasattr(signal, "setitimer"):  # elsewhere the parent alone watches
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _answer(stream: bytes, options: dict[str, Any]) -> tuple[bytes, dict[str, Any], Body]:
    try:
        pixels = np.ascontiguousarray(decoded(stream, options))
        return b"a", {"type": pixels.dtype.str, "shape": pixels.shape}, pixels.data.cast("B")
    except MemoryError:
        return b"m", {}, b""
    except Exception as error:  # each decoder raises its own kind
        return b"e", {"reason": " ".join(str(error).split())[:500] or type(error).__name__}, b""


def decoded(stream: bytes, options: dict[str, Any]) -> np.ndarray:
    """The stored values `(h, w)` or `(h, w, 3)` of one frame; `options` are pydicom's, of the file that it is from."""
    options = {**options, "transfer_syntax_uid": UID(options["transfer_syntax_uid"])}
    syntax = options["transfer_syntax_uid"]
    if syntax == JPEGExtended12Bit and options["bits_stored"] > 8:
        return _twelve_bits(stream, options)
    decoder = get_decoder(syntax)
    plugin = next((one for one in SAFER if one in decoder.available_plugins), "")
    pixels, _ = decoder.as_array(encapsulate([stream]), index=0, decoding_plugin=plugin, **options)
    return pixels


def _twelve_bits(stream: bytes, options: dict[str, Any]) -> np.ndarray:
    """A 12-bit lossy JPEG, which pydicom leaves to a decoder under the GPL although GDCM knows it."""
    import gdcm

    fragment, fragments = gdcm.Fragment(), gdcm.SequenceOfFragments.New()
    fragment.SetByteStringValue(stream)
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image, rows, columns = gdcm.Image(), options["rows"], options["columns"]
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(element)
    grey = gdcm.PhotometricInterpretation.GetPIType(options["photometric_interpretation"])
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(grey))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(str(JPEGExtended12Bit))))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, 12, 11, 0))
    content = image.GetBuffer().encode("utf-8", "surrogateescape")  # GDCM answers bytes as text
    return np.frombuffer(content, "<u2").reshape(rows, columns)


def _send(outbox: BinaryIO, kind: bytes, head: dict[str, Any], body: Body) -> None:
    told = json.dumps(head).encode()
    outbox.write(struct.pack(HEADER, kind, len(told), len(body)) + told)
    outbox.write(body)
    outbox.flush()


if __name__ == "__main__":
    main()
