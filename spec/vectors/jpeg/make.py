"""Writes the small pictures beside this script, with Pillow: /usr/bin/python3 spec/vectors/jpeg/make.py. Seeds of the fuzzer."""
import os
from PIL import Image

here = os.path.dirname(os.path.abspath(__file__))
rgb = Image.new("RGB", (20, 12))
rgb.putdata([(12 * x, 20 * y, (x * y) % 256) for y in range(12) for x in range(20)])
rgb.convert("L").save(here + "/grey.jpg", quality=80)
rgb.save(here + "/colour.jpg", quality=70)
rgb.save(here + "/progressive.jpg", quality=50, progressive=True)
rgb.convert("CMYK").save(here + "/cmyk.jpg", quality=90)
