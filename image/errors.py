"""Errors of an image build, worded for the person who builds it.

ImageError
├── FetchError     something could not be downloaded; names what and why
├── ToolError      a program that the build runs is missing or has failed
└── FormatError    a file is not what its name promises; names file and field
"""


class ImageError(Exception):
    """The image was not built; an earlier image is unchanged."""


class FetchError(ImageError):
    pass


class ToolError(ImageError):
    pass


class FormatError(ImageError):
    pass
