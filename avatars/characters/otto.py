"""Otto: guide to molts, past fifty, among his books in the light of a desk lamp."""

from __future__ import annotations

from avatars.characters.human import Human, Look
from avatars.characters.stage import Pose
from avatars.characters.svg import Drawing, Place, ellipse, fade, gradient, placed, soft, strands
from avatars.engines.poses import Mouth

HAIR, HAIR_LIGHT, HAIR_DARK, GREY = "#8a4e2f", "#b87748", "#5c301c", "#d8c9bb"


class Otto(Human):
    name = "otto"
    look = Look(
        light="#fbd9bb",
        skin="#efba94",
        shade="#d39670",
        deep="#8f5237",
        blush="#e36f4f",
        lip="#b9635a",
        lip_light="#d68a7c",
        iris="#2f5d57",
        iris_light="#6fa394",
        brow="#74402a",
        lash="#3a2015",
        lid="#d8a07c",
        lash_wing=0.0,
        eye_wide=20.0,
        eye_up=11.0,
        eye_down=6.6,
        eye_tilt=0.5,
        iris_radius=10.6,
        brow_thick=8.5,
        brow_arch=3.5,
        brow_y=184,
        lips=0.78,
        mouth_wide=27,
        mouth_y=289,
        nose_wide=17,
        nose_y=260,
        folds=0.3,
        jaw=(
            "M174 186C173 130 202 92 256 92C310 92 339 130 338 186C338 216 336 246 331 270C325 298 306 324 284 335"
            "C266 343 246 343 228 335C206 324 187 298 181 270C176 246 174 216 174 186Z"
        ),
    )

    def definitions(self) -> str:
        return "".join(
            (
                gradient("hair", (f"0 {HAIR_LIGHT}", f".45 {HAIR}", f"1 {HAIR_DARK}"), (0.1, 0, 0.8, 1)),
                gradient("beard", (f"0 {HAIR}", f".55 {HAIR_DARK}", "1 #7d5540")),
                gradient("shine", ("0 #e2a773 0", ".4 #e2a773 .8", "1 #e2a773 0")),
                gradient("knit", ("0 #efc063", ".5 #d99d3c", "1 #a86f20"), (0, 0, 0.7, 1)),
                gradient("collar", ("0 #ffffff", "1 #dfe6ea"), (0, 0, 0.3, 1)),
                gradient("lens", ("0 #ffffff .34", ".45 #ffffff .06", "1 #ffffff .16"), (0, 0, 0.8, 1)),
            )
        )

    def scene(self) -> str:
        draw = Drawing()
        draw.raw(
            "<defs>"
            + gradient("wall", ("0 #3f6f78", ".6 #2f5762", "1 #213f4a"), (0, 0, 0.3, 1))
            + fade("lamp", "#ffdf9e", 0.95)
            + fade("fill", "#8fd0d0", 0.5)
            + fade("vignette", "#0c2128", 0.75)
            + soft("b2", 3)
            + soft("b8", 8)
            + "</defs>"
        )
        draw.raw('<rect x="-500" y="-500" width="1512" height="1512" fill="url(#wall)"/>')
        draw.open(filter="b2")
        colours = ("#c8694b", "#e0a458", "#f0dcb8", "#5f8f8b", "#7c4f5e", "#a9bf9e", "#d98f6a", "#3e6b7a")
        for row in range(-4, 6):
            y = 8 + row * 112
            x = -420.0
            number = (row + 4) * 37
            while x < 930:
                number += 1
                wide = 15 + (number * 7) % 13
                high = 66 + (number * 13) % 26
                if (number * 5) % 11 == 0:
                    x += 30
                    continue
                lean = 6 if number % 9 == 0 else 0
                draw.raw(
                    f'<rect x="{x:.0f}" y="{y + 98 - high}" width="{wide}" height="{high}" rx="2.500"'
                    f' fill="{colours[(number * 3 + row * 5) % 8]}" opacity=".62" transform="rotate({lean} {x:.0f} {y + 98})"/>'
                )
                x += wide + 3 + lean
            draw.raw(f'<rect x="-500" y="{y + 98}" width="1512" height="12" fill="#7a5238"/>')
            draw.raw(f'<rect x="-500" y="{y + 98}" width="1512" height="4" fill="#a8775056"/>')
        draw.close()
        draw.raw('<rect x="-500" y="-500" width="1512" height="1512" fill="#234852" opacity=".38"/>')
        draw.path(ellipse(62, 150, 330), "#lamp", opacity=0.9)
        draw.path(ellipse(62, 150, 130), "#lamp", opacity=0.9)
        draw.open(filter="b2")
        draw.path("M18 120L92 120L124 196L-14 196Z", "#fff1cf")
        draw.raw('<rect x="50" y="196" width="10" height="330" fill="#b08345"/>')
        draw.close()
        draw.path(ellipse(520, 260, 260, 330), "#fill", opacity=0.5)
        draw.path(ellipse(256, 560, 720, 230), "#vignette")
        return str(draw)

    def behind(self, draw: Drawing, pose: Pose) -> None:
        back = "M256 74C206 74 168 106 168 170C168 210 176 240 190 262L322 262C336 240 344 210 344 170C344 106 306 74 256 74Z"
        draw.path(placed(back, pose.at(-20)), HAIR_DARK)

    def clothes(self, draw: Drawing, pose: Pose) -> None:
        body = pose.body()
        jumper = (
            "M198 362C176 378 124 388 92 404C52 424 36 480 32 570L32 720L480 720L480 570C476 480 460 424 420 404"
            "C388 388 336 378 314 362C306 408 284 436 256 440C228 436 206 408 198 362Z"
        )
        draw.path(placed(jumper, body), "#knit")
        shape = placed(jumper, body)
        draw.clip(shape)
        draw.line(
            placed(strands("M60 400C80 470 84 560 84 700", "M452 400C432 470 428 560 428 700", 44, sway=0.6), body),
            "#8f5c18",
            1.2,
            opacity=0.3,
        )
        draw.path(
            placed("M420 400C446 440 424 500 424 720L500 720L490 440Z", body), "#5b3508", opacity=0.45, filter="soft8"
        )
        draw.path(placed("M92 404C64 440 76 500 78 720L20 720L20 440Z", body), "#ffe3a1", opacity=0.35, filter="soft8")
        draw.path(
            placed(
                "M188 372C196 424 224 458 256 460C288 458 316 424 324 372L340 384C330 444 296 482 256 484C216 482 182 444 172 384Z",
                body,
            ),
            "#6b4310",
            opacity=0.35,
            filter="soft4",
        )
        draw.close()
        draw.path(
            placed(
                "M198 362C206 408 228 436 256 440C284 436 306 408 314 362L328 370C320 420 292 456 256 460C220 456 192 420 184 370Z",
                body,
            ),
            "#c98c30",
        )
        draw.line(placed("M184 370C192 420 220 456 256 460C292 456 320 420 328 370", body), "#8f5c18", 1.8, opacity=0.6)
        draw.path(
            placed("M200 352C188 362 182 368 178 378C190 408 210 432 228 446L256 416C232 404 212 384 200 352Z", body),
            "#collar",
        )
        draw.path(
            placed("M312 352C324 362 330 368 334 378C322 408 302 432 284 446L256 416C280 404 300 384 312 352Z", body),
            "#collar",
        )
        draw.path(
            placed("M312 352C324 362 330 368 334 378C322 408 302 432 284 446L256 416C280 404 300 384 312 352Z", body),
            "#5d7480",
            opacity=0.25,
        )
        draw.line(
            placed("M178 378C190 408 210 432 228 446L256 416L284 446C302 432 322 408 334 378", body),
            "#8496a0",
            1.2,
            opacity=0.5,
        )

    def hairline(self, draw: Drawing, pose: Pose) -> None:
        draw.path(
            placed(
                "M160 230C176 190 180 150 206 132C240 122 280 126 306 134C332 150 336 190 352 230L352 80L160 80Z",
                pose.face(0),
            ),
            self.look.deep,
            opacity=0.36,
            filter="soft4",
        )

    def beard(self, draw: Drawing, pose: Pose, mouth: Mouth, jaw: Place) -> None:
        y = self.look.mouth_y
        drop = 11 * mouth.openness
        beard = (
            "M170 196C176 226 182 250 194 262C206 272 220 268 232 266C244 264 250 266 256 268C262 266 268 264 280 266"
            "C292 268 306 272 318 262C330 250 336 226 342 196L356 260L330 350L256 364L182 350L156 260Z"
        )
        draw.path(placed(beard, pose.face(2)), "#beard", opacity=0.96)
        draw.line(
            placed(
                strands("M176 214C180 262 196 310 240 344", "M250 300C250 320 252 334 254 350", 16, sway=2),
                pose.face(3),
            ),
            HAIR_LIGHT,
            1.3,
            opacity=0.35,
        )
        draw.line(
            placed(
                strands("M336 214C332 262 316 310 272 344", "M262 300C262 320 260 334 258 350", 16, 4, sway=2),
                pose.face(3),
            ),
            HAIR_LIGHT,
            1.3,
            opacity=0.25,
        )
        draw.line(
            placed(
                strands("M226 318C234 330 244 338 250 342", "M286 318C278 330 268 338 262 342", 12, 2),
                lambda p: pose.face(3)(p + [0, drop]),
            ),
            GREY,
            1.4,
            opacity=0.5,
        )

    def moustache(self, draw: Drawing, pose: Pose, mouth: Mouth) -> None:
        y = self.look.mouth_y - 36 * 0.2 * mouth.openness
        o = 5 * mouth.openness
        half = 34 * (1 - 0.28 * mouth.rounding) + 6 * max(0.0, mouth.width - 0.5)
        for side in (-1, 1):
            d = (
                f"M256 {y - 16}C{256 + side * 10} {y - 21} {256 + side * 22} {y - 18} {256 + side * half} {y - 2 + o}"
                f"C{256 + side * (half + 2)} {y + 2 + o} {256 + side * (half - 2)} {y + 5 + o} {256 + side * (half - 6)} {y + 3 + o}"
                f"C{256 + side * 20} {y - 3} {256 + side * 8} {y - 4} 256 {y - 4}Z"
            )
            draw.path(placed(d, pose.face(9)), "#hair")
            draw.line(
                placed(
                    strands(
                        f"M{256 + side * 3} {y - 15}C{256 + side * 12} {y - 17} {256 + side * 22} {y - 14} {256 + side * (half - 2)} {y + o}",
                        f"M{256 + side * 3} {y - 6}C{256 + side * 10} {y - 7} {256 + side * 20} {y - 6} {256 + side * (half - 6)} {y + 1 + o}",
                        7,
                        1,
                        sway=0.5,
                    ),
                    pose.face(9),
                ),
                HAIR_LIGHT,
                1.1,
                opacity=0.5,
            )

    def hair(self, draw: Drawing, pose: Pose) -> None:
        place = pose.face(10)
        for side in (-1, 1):
            x = 256 + side * 83
            burn = f"M{x - side * 4} 150C{x + side * 2} 160 {x + side * 3} 190 {x + side * 1} 214L{x - side * 9} 218C{x - side * 8} 196 {x - side * 10} 176 {x - side * 12} 158Z"
            draw.path(placed(burn, pose.face(3)), HAIR)
            draw.line(
                placed(
                    strands(
                        f"M{x - side * 8} 160C{x - side * 6} 180 {x - side * 6} 200 {x - side * 7} 214",
                        f"M{x + side * 1} 156C{x + side * 1} 180 {x + side * 1} 200 {x - side * 1} 214",
                        6,
                        sway=0.5,
                    ),
                    pose.face(4),
                ),
                GREY,
                1.4,
                opacity=0.6,
            )
        top = (
            "M172 190C160 140 166 96 200 76C222 58 262 48 300 60C334 68 354 100 348 150C347 166 344 178 340 190"
            "C338 168 334 150 322 136C306 138 284 132 268 122C244 138 214 140 192 140C182 152 176 170 172 190Z"
        )
        draw.path(placed(top, place), "#hair")
        draw.line(
            placed(
                strands(
                    "M188 138C196 112 220 92 262 92C300 92 324 110 326 134",
                    "M174 170C166 110 200 66 262 58C320 56 350 100 344 160",
                    14,
                    sway=1.2,
                ),
                place,
            ),
            HAIR_DARK,
            1.5,
            opacity=0.35,
        )
        draw.line(
            placed(
                strands(
                    "M192 134C206 110 236 96 268 100C300 100 318 116 322 130",
                    "M178 150C180 104 214 70 268 62C316 62 340 96 342 140",
                    13,
                    3,
                    sway=1.2,
                ),
                place,
            ),
            "#shine",
            2.0,
            opacity=0.8,
        )
        draw.line(
            placed(
                strands("M180 180C180 160 186 146 194 140", "M172 180C170 150 174 130 184 118", 7, 2, sway=0.6), place
            ),
            GREY,
            1.4,
            opacity=0.55,
        )
        draw.line(
            placed(
                strands("M332 180C332 160 328 146 320 138", "M342 180C344 150 340 130 332 118", 7, 2, sway=0.6), place
            ),
            GREY,
            1.4,
            opacity=0.5,
        )

    def before(self, draw: Drawing, pose: Pose) -> None:
        place = pose.face(16)
        y = self.look.eye_y + 2
        rims = []
        for side in (-1, 1):
            x = 256 + side * 37
            rims.append(
                f"M{x - 30} {y - 4}C{x - 30} {y - 22} {x - 18} {y - 25} {x} {y - 25}C{x + 18} {y - 25} {x + 30} {y - 22} {x + 30} {y - 4}"
                f"C{x + 30} {y + 16} {x + 18} {y + 25} {x} {y + 25}C{x - 18} {y + 25} {x - 30} {y + 16} {x - 30} {y - 4}Z"
            )
        for rim in rims:
            draw.line(placed(rim, lambda p: pose.face(6)(p + [1, 5])), self.look.deep, 4.0, opacity=0.22)
        for rim in rims:
            draw.path(placed(rim, place), "#lens")
            draw.line(placed(rim, place), "#2b3236", 4.2)
            draw.line(placed(rim, lambda p: place(p) - [0.6, 1.0]), "#7d8c92", 1.0, opacity=0.6)
        draw.line(placed(f"M249 {y - 6}C252 {y - 11} 260 {y - 11} 263 {y - 6}", place), "#2b3236", 4.2)
        for side in (-1, 1):
            x = 256 + side * 67
            arm = placed(f"M{x} {y - 10}L{256 + side * 82} {y - 12}", pose.face(10))
            draw.line(arm, "#2b3236", 4.2)
